//! A core's thread panics or stalls while media runs over real sockets: another one takes its port,
//! is told control's records, and goes on. The clients only send and receive; each opens what
//! arrives with a replay window, so that an index used twice would show.

#[allow(dead_code, reason = "the stage of the talks, of which this needs the clients")]
#[path = "talks/world.rs"]
mod world;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_dataplane::threads::{Clock, DataPlane, DataPlaneConfig, Fault, Loss, start};
use opencall_io::BackendChoice;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;
use world::{Client, Video, World};

/// After that a test has failed; nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a frame is sent, and how long a client waits for a datagram before it sends the next.
const FRAME: Duration = Duration::from_millis(10);

/// One core with a speaker and a viewer.
struct Stage {
    world: World,
    plane: DataPlane,
    clock: Clock,
    notified: Receiver<()>,
    speaker: Client,
    viewer: Client,
    sockets: [UdpSocket; 2],
    sequence: u16,
    key_frame_asked: bool,
    received: u32,
}

impl Stage {
    fn new(backend: BackendChoice) -> Self {
        let mut world = World::new(1);
        let invite = |world: &mut World| {
            let (client, keys) = world.invite(CoreId(0), Profile::AeadAes128Gcm, 1_000_000_000);
            let transport = client.transport;
            world.command(CoreId(0), Command::InstallSrtp { transport, keys });
            client
        };
        let (speaker, viewer) = (invite(&mut world), invite(&mut world));
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        world.consume(&viewer, &source);
        let config = DataPlaneConfig {
            cores: 1,
            listen: vec!["127.0.0.1".parse().unwrap()],
            first_port: 0,
            backend,
            pin: false,
            seed: 7,
            sockets: Vec::new(),
        };
        let (clock, (notify, notified)) = (Clock::start(), channel());
        let notify: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            // After the test nobody listens.
            let _ = notify.send(());
        });
        let plane = start(&config, clock, &notify).unwrap();
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(plane.cores[0].local_addrs()[0]).unwrap();
            socket.set_read_timeout(Some(FRAME)).unwrap();
            socket
        };
        let sockets = [socket(), socket()];
        let (sequence, key_frame_asked, received) = (0, true, 0);
        let mut stage = Stage {
            world,
            plane,
            clock,
            notified,
            speaker,
            viewer,
            sockets,
            sequence,
            key_frame_asked,
            received,
        };
        stage.tell_records();
        stage.sockets[0].send(&stage.speaker.check_bytes(true)).unwrap();
        stage.sockets[1].send(&stage.viewer.check_bytes(true)).unwrap();
        let proof = stage.viewer.sealed_rtcp(|writer| writer.pli(9, 1).unwrap());
        stage.sockets[1].send(&proof).unwrap();
        stage
    }

    fn tell_records(&mut self) {
        for (_, command) in self.world.records.replay(CoreId(0)) {
            assert!(self.plane.cores[0].send(command).is_ok(), "there is room");
        }
        self.plane.cores[0].wake();
    }

    /// The speaker sends a frame; both take what has come.
    fn frame(&mut self) {
        let (sequence, key) = (self.sequence, std::mem::take(&mut self.key_frame_asked));
        let timestamp = u32::from(sequence) * 900;
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id: sequence, key };
        let packet = self.speaker.sealed_video(video);
        self.sockets[0].send(&packet).unwrap();
        self.sequence += 1;
        while let Some(bytes) = take(&self.sockets[1]) {
            self.received += u32::from(self.viewer.opened(bytes).0.is_some());
        }
        while let Some(bytes) = take(&self.sockets[0]) {
            let (_, compound) = self.speaker.opened(bytes);
            let is_pli = |compound: Vec<u8>| compound.windows(2).any(|head| head == [0x81, 206]);
            self.key_frame_asked |= compound.is_some_and(is_pli);
        }
        for core in &mut self.plane.cores {
            while core.poll_event().is_some() {}
        }
    }

    /// Sends until the viewer has received so many packets more.
    fn run_until_received(&mut self, packets: u32) {
        let (enough, begun) = (self.received + packets, self.clock.now());
        while self.received < enough {
            self.frame();
            assert!(self.clock.now().since(begun) < PATIENCE, "no media: {}", self.received);
        }
    }

    /// Sends until the core is lost.
    fn run_until_lost(&mut self) -> Loss {
        let begun = self.clock.now();
        loop {
            while self.notified.try_recv().is_ok() {}
            let now = self.clock.now();
            if let Some(loss) = self.plane.losses(now).next() {
                return loss;
            }
            assert!(now.since(begun) < PATIENCE, "nobody notices");
            self.frame();
        }
    }

    fn replace(&mut self) {
        let begun = self.clock.now();
        while self.plane.due_for_replacement(self.clock.now()).is_none() {
            assert!(self.clock.now().since(begun) < PATIENCE, "never due");
            self.frame();
        }
        self.plane.replace(CoreId(0), self.clock.now()).unwrap();
        self.tell_records();
    }

    fn stop(mut self) {
        assert!(self.plane.cores[0].send(Command::Shutdown).is_ok());
        self.plane.cores[0].wake();
        self.plane.cores[0].join();
    }
}

fn take(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 2048];
    let len = socket.recv(&mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

fn everyone_goes_on_after_panics(backend: BackendChoice) {
    let mut stage = Stage::new(backend);
    let address: SocketAddr = stage.plane.cores[0].local_addrs()[0];
    stage.run_until_received(20);
    for _ in 0..3 {
        stage.plane.faults().inject(CoreId(0), Fault::Panic);
        let loss = stage.run_until_lost();
        assert!(!loss.stalled && loss.death.reason.contains("a fault was injected"), "{loss:?}");
        assert_eq!((loss.death.suspect, loss.quarantined), (None, None), "it was between turns");
        stage.replace();
        assert_eq!(stage.plane.cores[0].local_addrs()[0], address);
        stage.run_until_received(20);
    }
    stage.stop();
}

fn everyone_goes_on_after_a_stall(backend: BackendChoice) {
    let mut stage = Stage::new(backend);
    stage.run_until_received(20);
    stage.plane.faults().inject(CoreId(0), Fault::Stall);
    let loss = stage.run_until_lost();
    assert!(loss.stalled, "{loss:?}");
    stage.replace();
    // The first thread wakes up meanwhile, with datagrams sealed that it must not send.
    stage.run_until_received(100);
    stage.stop();
}

#[test]
fn after_panics_with_what_the_kernel_has() {
    everyone_goes_on_after_panics(BackendChoice::Auto);
}

#[test]
fn after_panics_with_plain_system_calls() {
    everyone_goes_on_after_panics(BackendChoice::Mmsg);
}

#[test]
fn after_a_stall_with_what_the_kernel_has() {
    everyone_goes_on_after_a_stall(BackendChoice::Auto);
}

#[test]
fn after_a_stall_with_plain_system_calls() {
    everyone_goes_on_after_a_stall(BackendChoice::Mmsg);
}
