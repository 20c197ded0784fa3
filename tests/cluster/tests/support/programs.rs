//! Client programs in other languages, against the nodes of a cluster: one that says READY when it is under way, and then goes on to its end.
//! Not here: the programs (`tests/pika`, `tests/amqplib`, `tests/lapin`), what happens to the nodes meanwhile.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A program that is under way.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// # Panics
    /// If it ends before it is under way.
    pub(crate) fn under_way(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "READY" {
            print!("{line}");
            line.clear();
            let read = output.read_line(&mut line).unwrap();
            assert!(read > 0, "the program ended before it was under way");
        }
        Self { child, output }
    }

    /// # Panics
    /// If it does not end well.
    pub(crate) fn passes(mut self) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        println!("{rest}");
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}
