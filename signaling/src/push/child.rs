//! The program that sends: one ffmpeg for each push, fed on its standard input.
//!
//! It reads its input from a pipe alone and ends with it, so that it does not outlive the server.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use opencall_wire::codec::Codec;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::target::Address;

/// The program.
const PROGRAM: &str = "ffmpeg";

/// Bytes that are read of one line.
const MAX_LINE: u64 = 4_096;

/// Pixels of a picture that is decoded at most: 4096 × 4096. Its sender says how large it is, and
/// some bytes may claim hundreds of megabytes.
const MAX_PIXELS: u32 = 1 << 24;

/// How pictures are sent that the other side takes as they are not: in one size, whatever theirs.
const PICTURE: &str = "scale=1280:720:force_original_aspect_ratio=decrease,\
                       pad=1280:720:-1:-1,setsar=1,fps=30";

/// What the program is told: to take Matroska with a picture of this codec, or with none.
pub fn arguments(address: &Address, picture: Option<Codec>, ca: Option<&Path>) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut say = |words: &str| all.extend(words.split_whitespace().map(OsString::from));
    say("-hide_banner -nostdin -nostats -loglevel error -progress pipe:1 -stats_period 0.5");
    say("-protocol_whitelist pipe -probesize 1000000 -analyzeduration 1000000");
    say(&format!("-threads 2 -max_pixels {MAX_PIXELS} -f matroska -i pipe:0 -map 0:a"));
    match picture {
        None => {}
        Some(Codec::H264) if address.is_srt() => say("-map 0:v -c:v copy"),
        // What changes a picture's size stands in its stream, and FLV's header has it anew.
        Some(Codec::H264) => {
            say("-map 0:v -c:v copy -bsf:v h264_mp4toannexb,extract_extradata");
        }
        Some(_) => {
            say("-map 0:v -c:v libx264 -preset veryfast -tune zerolatency -profile:v main");
            say("-pix_fmt yuv420p -b:v 2500k -maxrate 2500k -bufsize 2500k -g 60 -threads 2 -vf");
            say(PICTURE);
        }
    }
    say("-c:a aac -b:a 128k -ar 48000 -ac 2 -af aresample=async=1000");
    // Sound goes on where the picture does not, and follows the clock of its sender.
    say("-max_interleave_delta 200000 -flush_packets 1");
    if address.is_srt() {
        say("-f mpegts");
    } else {
        say("-rw_timeout 4000000 -f flv -flvflags no_duration_filesize");
    }
    if address.is_tls() {
        say("-tls_verify 1");
        if let Some(ca) = ca {
            all.extend(["-ca_file".into(), ca.as_os_str().to_owned()]);
        }
    }
    all.push(address.text().into());
    all
}

/// One that runs.
pub struct Child {
    process: tokio::process::Child,
    input: Option<UnboundedSender<Vec<u8>>>,
    queued: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
    words: Arc<Mutex<String>>,
    listening: JoinHandle<()>,
}

impl Child {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no process or no files left.
    pub fn start(
        address: &Address,
        picture: Option<Codec>,
        ca: Option<&Path>,
    ) -> std::io::Result<Self> {
        // A picture that is made anew is not to delay those who meet.
        let mut process = Command::new("nice")
            .args(["-n", "5", PROGRAM])
            .args(arguments(address, picture, ca))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (input, taken) = unbounded_channel();
        let (queued, sent, words) = <(Arc<AtomicUsize>, Arc<AtomicU64>, Arc<_>)>::default();
        if let Some(stdin) = process.stdin.take() {
            tokio::spawn(write(stdin, taken, Arc::clone(&queued)));
        }
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(watch(stdout, Arc::clone(&sent)));
        }
        let (stderr, heard) = (process.stderr.take(), Arc::clone(&words));
        let listening = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                listen(stderr, &heard).await;
            }
        });
        Ok(Child { process, input: Some(input), queued, sent, words, listening })
    }

    /// Hands bytes over.
    pub fn put(&self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            self.queued.fetch_add(bytes.len(), Ordering::Relaxed);
            // A program that has ended is found out elsewhere.
            let _ = input.send(bytes);
        }
    }

    /// Bytes that it has not taken yet.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Bytes that it has sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Nothing more comes: it ends when it has sent what there is.
    pub fn finish(&mut self) {
        self.input = None;
    }

    /// Ends it now.
    pub fn kill(&mut self) {
        // One that has ended needs none.
        let _ = self.process.start_kill();
    }

    /// How it ended, once it has and all that it said was read.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.try_wait().ok().flatten()?;
        self.listening.is_finished().then_some(status)
    }

    /// The last that it said.
    pub fn words(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn write(
    mut stdin: ChildStdin,
    mut taken: UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
) {
    while let Some(bytes) = taken.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
        queued.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

/// Lines of what a program says, none longer than it may be.
async fn lines(from: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => take(String::from_utf8_lossy(&line).trim()),
        }
    }
}

async fn watch(stdout: impl AsyncRead + Unpin, sent: Arc<AtomicU64>) {
    lines(stdout, |line| {
        let bytes = line.strip_prefix("total_size=").and_then(|size| size.parse().ok());
        if let Some(bytes) = bytes {
            sent.store(bytes, Ordering::Relaxed);
        }
    })
    .await;
}

async fn listen(stderr: impl AsyncRead + Unpin, words: &Mutex<String>) {
    lines(stderr, |line| {
        if !line.is_empty() {
            line.clone_into(&mut words.lock().unwrap_or_else(PoisonError::into_inner));
        }
    })
    .await;
}
