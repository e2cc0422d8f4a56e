//! The machine of a measurement.

use std::fs;
use std::num::NonZeroUsize;

use crate::record::Machine;

/// Describes this machine; values that Linux does not report are empty or 0.
pub(crate) fn describe() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Machine {
        processor: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
        threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        memory: value_of(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.strip_suffix(" kB")?.parse::<u64>().ok())
            .map_or(0, |kilobytes| kilobytes * 1024),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load: load(&read("/proc/loadavg")),
    }
}

/// Returns the value after the first `key:` of a file of /proc.
fn value_of(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim_end() == key).then(|| value.trim().to_owned())
    })
}

/// Returns the load average of a minute, in hundredths.
fn load(text: &str) -> u32 {
    let digits = text.split(' ').next().unwrap_or_default().replace('.', "");
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor @ 3 GHz\nmodel name\t: other\n";
        assert_eq!(value_of(cpuinfo, "model name").as_deref(), Some("A Processor @ 3 GHz"));
        assert_eq!(value_of(cpuinfo, "model"), None);
        assert_eq!(load("2.07 1.50 1.20 1/200 4242\n"), 207);
        assert_eq!(load(""), 0);
    }

    #[test]
    fn this_machine_has_memory() {
        let machine = describe();
        assert!(machine.memory > 0 && machine.threads > 0 && !machine.kernel.is_empty());
    }
}
