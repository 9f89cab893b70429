//! Starts the threads of data cores, whoever asks. A thread is as nice as the one that made it, and
//! control, which adds and replaces cores, has stepped back in favour of them.
#![forbid(unsafe_code)]

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

type Work = Box<dyn FnOnce() + Send>;
type Answer = io::Result<JoinHandle<()>>;

/// A thread that is to be: its name, what it does, and who waits for it.
type Birth = (String, Work, SyncSender<Answer>);

/// The thread that makes them; it ends with this.
pub(super) struct Nursery {
    births: Sender<Birth>,
}

impl Nursery {
    /// Makes the thread; the others will be as nice as the caller is now.
    pub fn open() -> io::Result<Self> {
        let (births, asked) = channel();
        Builder::new().name("nursery".into()).spawn(move || serve(&asked))?;
        Ok(Nursery { births })
    }

    /// Starts a thread.
    pub fn start(&self, name: String, work: impl FnOnce() + Send + 'static) -> Answer {
        let (answer, answered) = sync_channel(1);
        let gone = || io::Error::other("the thread that starts others has ended");
        self.births.send((name, Box::new(work), answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

fn serve(asked: &Receiver<Birth>) {
    while let Ok((name, work, answer)) = asked.recv() {
        // Who asked waits for it.
        let _ = answer.send(Builder::new().name(name).spawn(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_no_nicer_than_the_server_was_at_its_start() {
        let policy = || std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Priority and niceness, among what follows the name.
        let nice = |stat: String| {
            let (_, rest) = stat.rsplit_once(')').unwrap();
            rest.split_ascii_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice(policy());
        let asked = std::thread::spawn(move || {
            let nursery = Nursery::open().unwrap();
            opencall_io::step_back();
            let (told, heard) = channel();
            let name = || std::thread::current().name().map(str::to_owned);
            let work = move || told.send((nice(policy()), name())).unwrap();
            nursery.start("data-9".to_owned(), work).unwrap().join().unwrap();
            (nice(policy()), heard.recv().unwrap())
        });
        let (stepped_back, (nice, name)) = asked.join().unwrap();
        assert_eq!((nice, name.as_deref()), (before, Some("data-9")));
        assert!(stepped_back > before || before >= 10, "{stepped_back}");
    }
}
