//! The `afterimage` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    afterimage::cli::run()
}
