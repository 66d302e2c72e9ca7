//! One worker process, seen from its parent.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use deim_train::events::Event;

use crate::error::LabError;
use crate::execute::Concluded;
use crate::protocol::{End, Order, STOP, Said};

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

/// What came from a worker.
pub enum Heard {
    Event(Event),
    End(End),
    /// A line of its standard error, or one of its standard output that it did not mean to write.
    Line(String),
    /// Its standard output is closed: it ended, or is about to.
    Closed,
}

/// The last lines that are kept to explain a death.
const KEPT_LINES: usize = 40;

/// A running worker. Dropping it closes its standard input, which ends it.
pub struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    /// The two threads that read what it writes.
    readers: Vec<JoinHandle<()>>,
    /// What it said its end is.
    pub end: Option<End>,
    tail: VecDeque<String>,
    /// It was killed on purpose.
    killed: bool,
}

impl Worker {
    pub fn start(
        command: &Command,
        order: &Order,
        slot: usize,
        sender: Sender<(usize, Heard)>,
    ) -> Result<Self, LabError> {
        let failed = |error: std::io::Error| {
            LabError::Worker(format!("cannot start {}: {error}", command.program.display()))
        };
        let mut child = std::process::Command::new(&command.program)
            .args(&command.arguments)
            .env("RAYON_NUM_THREADS", order.threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let lines = child.stderr.take().map(|stream| {
            let sender = sender.clone();
            read_lines(stream, move |line| drop(sender.send((slot, Heard::Line(line)))))
        });
        let story = child.stdout.take().map(|stream| {
            std::thread::spawn(move || {
                let told = sender.clone();
                // The parent is gone when nothing can be sent; the worker notices on its own.
                let tell = move |line: String| {
                    let heard = match serde_json::from_str(&line) {
                        Ok(Said::Event { what }) => Heard::Event(what),
                        Ok(Said::End(end)) => Heard::End(end),
                        Err(_) => Heard::Line(line),
                    };
                    drop(told.send((slot, heard)));
                };
                drop(read_lines(stream, tell).join());
                // After the lines of both streams, so that a death can be explained.
                if let Some(lines) = lines {
                    drop(lines.join());
                }
                drop(sender.send((slot, Heard::Closed)));
            })
        });
        let mut worker = Self {
            input: child.stdin.take(),
            child,
            readers: story.into_iter().collect(),
            end: None,
            tail: VecDeque::new(),
            killed: false,
        };
        let order = serde_json::to_string(order).expect("an order has string keys");
        worker.write(&order);
        Ok(worker)
    }

    /// Asks for a checkpoint and an end.
    pub fn ask_to_stop(&mut self) {
        self.write(STOP);
    }

    /// Ends it now; its last checkpoint stays.
    pub fn kill(&mut self) {
        self.killed = true;
        // It may have ended already.
        let _ = self.child.kill();
    }

    /// Keeps a line of its standard error.
    pub fn remember(&mut self, line: String) {
        if self.tail.len() == KEPT_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// A worker that cannot be written to has ended, which its output will tell.
    fn write(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// Waits for the end of a worker that closed its output.
    pub fn conclude(&mut self) -> Result<Concluded, LabError> {
        let status = self
            .child
            .wait()
            .map_err(|error| LabError::Worker(format!("cannot wait for a worker: {error}")))?;
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        let (end, recorded) = match self.end.take() {
            Some(end) => (end, true),
            None if self.killed => (End::Stopped, true),
            None => (self.death(status), false),
        };
        Ok(Concluded { end, recorded })
    }

    /// The end of a worker that did not say what its end was.
    fn death(&self, status: ExitStatus) -> End {
        let lines = self.explanation();
        if let Some(signal) = signal(status) {
            let hint = if signal == 9 { " (killed by hand, or out of memory)" } else { "" };
            return End::Killed { reason: format!("ended by signal {signal}{hint}{lines}") };
        }
        let code =
            status.code().map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
        End::Failed { reason: format!("the worker died with {code}{lines}") }
    }

    /// The lines that most likely say why: those of a panic, else the last ones.
    fn explanation(&self) -> String {
        const SHOWN: usize = 5;
        let from = match self.tail.iter().position(|line| line.contains("panicked at")) {
            Some(panic) => panic,
            None => self.tail.len().saturating_sub(SHOWN),
        };
        let lines: Vec<&str> =
            self.tail.iter().skip(from).take(SHOWN).map(String::as_str).collect();
        if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" | ")) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Reaps the process: without its input it ends at once.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Hands on every line of a stream, also one that is not UTF-8.
fn read_lines(
    stream: impl Read + Send + 'static,
    tell: impl Fn(String) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            tell(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    })
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}
