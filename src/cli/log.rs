//! Lines for people who watch a log: a message and `key=value`, on standard error. In the journal of
//! systemd each begins with its priority, as `sd-daemon(3)` has it; the journal knows the time.

use super::args::GlobalArgs;
use crate::settings::LogTarget;
use crate::units::printable;
use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether lines are those of the journal. One process has one standard error.
static IS_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Begins to log, as standard error suggests.
pub(super) fn start(global: &GlobalArgs) {
    let level = match (global.quiet || global.json, global.verbose) {
        (true, _) => Level::ERROR,
        (false, 0) => Level::INFO,
        (false, _) => Level::DEBUG,
    };
    choose(LogTarget::Auto);
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .event_format(Lines { plain: Format::default().with_target(false) })
        .with_max_level(level);
    // It fails only when there is one already, as in a test.
    let _ = subscriber.try_init();
}

/// From now on lines are those of `target`.
pub(super) fn choose(target: LogTarget) {
    let is_journal = match target {
        LogTarget::Auto => {
            let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
            rustix::fs::fstat(std::io::stderr())
                .is_ok_and(|stat| is_stream(&told, stat.st_dev, stat.st_ino))
        }
        LogTarget::Journal => true,
        LogTarget::Plain => false,
    };
    IS_JOURNAL.store(is_journal, Ordering::Relaxed);
}

/// Whether `JOURNAL_STREAM` names this file: it is inherited by processes whose standard error leads
/// somewhere else.
fn is_stream(told: &str, device: u64, inode: u64) -> bool {
    told == format!("{device}:{inode}")
}

/// A line for each event.
struct Lines {
    plain: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !is_told(event.metadata()) {
            return Ok(());
        }
        if !IS_JOURNAL.load(Ordering::Relaxed) {
            return self.plain.format_event(context, writer, event);
        }
        let mut line = String::new();
        context.format_fields(Writer::new(&mut line), event)?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.push(' ');
                line.push_str(&fields.fields);
            }
        }
        writeln!(writer, "<{}>{}", priority(*event.metadata().level()), one_line(&line))
    }
}

/// Whether it is for people who watch: what libraries do is not, unless something is wrong.
fn is_told(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN || metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

/// What `syslog(3)` calls the level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

// The journal takes each line for a message of its own, with the priority that it begins with: what
// somebody else chose, such as a name of a file, must not begin one.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(work: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Lines { plain: Format::default().with_target(false) })
            .with_max_level(Level::DEBUG)
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    // One test: what lines are is the whole process's.
    #[test]
    fn the_journal_gets_priorities_and_a_plain_log_gets_times() {
        let work = || {
            let run = tracing::info_span!("run", run = "a1", machine = "web01");
            run.in_scope(|| tracing::warn!(disk = %"root\n<0>evil\u{1b}[31m", "a disk is slow"));
            tracing::error!("lost");
            tracing::info!(replica = "standby", "done");
            tracing::debug!("detail");
        };
        choose(LogTarget::Journal);
        let journal = logged(work);
        choose(LogTarget::Plain);
        let plain = logged(work);
        let expected = "<4>a disk is slow disk=root\\n<0>evil\\u{1b}[31m run=\"a1\" \
                        machine=\"web01\"\n<3>lost\n<6>done replica=\"standby\"\n<7>detail\n";
        assert_eq!(journal.replace("\\x1b", "\\u{1b}"), expected);
        let line = plain.lines().find(|line| line.contains("done")).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert_eq!(rest.trim_start(), "INFO done replica=\"standby\"");
        assert!(plain.contains("run{run=\"a1\" machine=\"web01\"}"), "{plain}");
    }

    #[test]
    fn the_journal_is_there_when_standard_error_is_what_was_told() {
        assert!(is_stream("8:12345", 8, 12345));
        for told in ["", "8", "8:1234", "8:12345:", "9:12345", " 8:12345", "nonsense"] {
            assert!(!is_stream(told, 8, 12345), "{told}");
        }
    }
}
