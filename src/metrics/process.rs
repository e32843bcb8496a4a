//! The process itself, in the names that all exporters use.

use super::family::Family;
use jiff::Timestamp;

/// Clock ticks of `/proc/PID/stat` in a second: Linux tells programs 100 whatever its own are.
const TICKS: f64 = 100.0;

/// What the kernel tells of this process. What it does not tell is left out.
pub(super) fn families(started: Timestamp) -> Vec<Family> {
    let mut families = vec![
        Family::gauge("process_start_time", "Start time of the process since unix epoch")
            .seconds()
            .only(Vec::new(), started.as_duration().as_secs_f64()),
    ];
    let mut tell = |family: Family, value: Option<f64>| {
        families.extend(value.map(|value| family.only(Vec::new(), value)));
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let cpu = Family::counter("process_cpu", "Total user and system CPU time spent").seconds();
    tell(cpu, cpu_seconds(&stat));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = Family::gauge("process_resident_memory", "Resident memory size").bytes();
    tell(memory, kib(&status, "VmRSS:"));
    let memory = Family::gauge("process_virtual_memory", "Virtual memory size").bytes();
    tell(memory, kib(&status, "VmSize:"));
    // The one that lists them is open meanwhile.
    let fds = std::fs::read_dir("/proc/self/fd").ok();
    let fds = fds.map(|fds| fds.count().saturating_sub(1) as f64);
    tell(Family::gauge("process_open_fds", "Number of open file descriptors"), fds);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let max = Family::gauge("process_max_fds", "Maximum number of open file descriptors");
    tell(max, fds_max(&limits));
    families
}

/// The fields after the name, which may hold anything and ends with the last bracket: `utime` and
/// `stime` are the twelfth and thirteenth.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / TICKS)
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn fds_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_move_its_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(kib("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12288.0));
        let limits = "Max open files            1024                 4096                 files\n";
        assert_eq!(fds_max(limits), Some(1024.0));
        assert_eq!(families(Timestamp::UNIX_EPOCH).len(), 6);
    }
}
