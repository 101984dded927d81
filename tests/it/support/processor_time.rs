//! The processor time of a process: unlike the time on a clock, it hardly depends on what else runs on the
//! machine.

/// Returns the processor time that all threads of a process have used since its start, in ticks of the
/// system's clock, mostly of 10 ms.
pub fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    // The name before it is in brackets, and may itself contain some.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    // `utime` and `stime`: fields 14 and 15 of proc_pid_stat(5).
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    ticks.map(|field| field.parse::<u64>().expect("a number")).sum()
}
