//! Control's end of a thread that works beside the data cores: commands down, events up.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The thread takes commands `C` and tells events `E`. It ends when it is told to, or is let go.
pub struct SideThread<C, E> {
    commands: Option<UnboundedSender<C>>,
    events: Receiver<E>,
    thread: JoinHandle<()>,
}

impl<C: Send + 'static, E: Send + 'static> SideThread<C, E> {
    /// Starts one of this name that does `work`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        name: &str,
        work: impl FnOnce(UnboundedReceiver<C>, Sender<E>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, taken) = unbounded_channel();
        let (told, events) = channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(|| work(taken, told))?;
        Ok(SideThread { commands: Some(commands), events, thread })
    }
}

impl<C, E> SideThread<C, E> {
    /// Hands a command over. Returns whether the thread lives.
    pub fn send(&self, command: C) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok())
    }

    /// The next event.
    pub fn poll_event(&self) -> Option<E> {
        self.events.try_recv().ok()
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Tells it to end.
    pub fn stop(&mut self) {
        self.commands = None;
    }
}
