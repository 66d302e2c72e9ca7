//! Training the cells of a plan, with everything around it that a user sees.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use deim_lab::execute::{Crew, Tally, execute, share};
use deim_lab::worker::Command;
use deim_lab::{Cell, Plan, Setting};

use crate::output::{self, Outcome};
use crate::progress::{Progress, count};

/// How to share the machine.
#[derive(clap::Args, Clone)]
pub struct CrewArgs {
    /// Processes side by side; by default one a core, as far as there are cells, and one on a GPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Threads of each process; by default the cores, shared evenly.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Stop everything at the first cell that fails.
    #[arg(long)]
    pub fail_fast: bool,
    /// Decoded images that each process may keep in memory, in MiB; changes speed alone.
    #[arg(long, value_name = "MIB", default_value_t = CACHE_MB)]
    pub cache_mb: usize,
}

/// Small data sets fit, and two processes of it fit a laptop.
pub const CACHE_MB: usize = 1024;

impl CrewArgs {
    /// The crew for so many cells.
    pub fn crew(&self, setting: &Setting, cells: usize) -> anyhow::Result<Crew> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let on_gpu = !setting.device.is_cpu();
        let (jobs, threads) = share(cores, cells, on_gpu, self.jobs.map(usize::from));
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let arguments = ["run", "--worker"].map(OsString::from).into();
        Ok(Crew {
            command: Command { program, arguments },
            jobs: jobs.min(cells.max(1)),
            threads: self.threads.map_or(threads, usize::from),
            fail_fast: self.fail_fast,
            cache_mb: self.cache_mb,
        })
    }
}

/// What training some cells came to.
#[derive(Default)]
pub struct Trained {
    pub tally: Tally,
    /// The user, rather than a failure, ended it early.
    pub interrupted: bool,
}

impl Trained {
    /// The exit code it deserves, with so many cells that failed before.
    pub fn exit_code(&self, failed_before: usize) -> u8 {
        let failed = self.tally.failed.len() + self.tally.killed.len() + failed_before;
        match (self.interrupted, failed) {
            (true, _) => output::INTERRUPTED,
            (false, 0) => output::DONE,
            (false, _) => output::FAILED,
        }
    }
}

/// Trains the cells and says what happened; `again` is what goes on with the rest.
pub fn train(
    plan: &Plan,
    cells: &[Cell],
    setting: &Setting,
    args: &CrewArgs,
    again: &str,
) -> anyhow::Result<Trained> {
    let crew = args.crew(setting, cells.len())?;
    let mut progress = Progress::start(plan, cells, &crew);
    let stop = Arc::new(AtomicUsize::new(0));
    let wishes = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        wishes.fetch_add(1, Ordering::SeqCst);
    })
    .context("cannot listen for Ctrl-C")?;
    let tally = execute(plan, cells, setting, &crew, &stop, &mut |notice| progress.watch(notice));
    progress.close();
    let tally = tally?;
    for (title, reason) in tally.failed.iter().chain(&tally.killed) {
        eprintln!("failed: {title}: {reason}");
    }
    if tally.left > 0 {
        eprintln!("{} not begun", count(tally.left, "cell"));
    }
    let failed = !tally.failed.is_empty() || !tally.killed.is_empty();
    let asked = stop.load(Ordering::SeqCst) > 0;
    let interrupted = tally.stopped + tally.left > 0 && (asked || !failed);
    if interrupted {
        eprintln!("stopped with everything saved; {again} goes on from here");
    } else if !tally.killed.is_empty() || tally.left > 0 {
        eprintln!("{again} goes on with the rest");
    }
    Ok(Trained { tally, interrupted })
}

/// The hidden other side: this process trains one cell for a parent.
pub fn work() -> Outcome {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let wish = Arc::clone(&stop);
    // Ctrl-C reaches the whole group: save and end, as the parent will ask as well.
    ctrlc::set_handler(move || wish.store(true, Ordering::SeqCst))
        .context("cannot listen for Ctrl-C")?;
    let code: ExitCode = deim_lab::work::serve(&stop, &deim_lab::trainer::train)?;
    Ok(code)
}
