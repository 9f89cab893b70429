//! What every backend that talks to the kernel must do, over loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::batch::MAX_DATAGRAM;
use super::*;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Only ends the tests of what does not happen: longer than any hiccup of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A backend with its batches, as the loop of a core has them.
struct Bench {
    io: Box<dyn Io>,
    parker: Parker,
    tx: TxBatch,
    rx: RxBatch,
}

impl Bench {
    fn new(backend: Backend, addrs: &[IpAddr]) -> Self {
        Bench::with_options(backend, addrs, SocketOptions::default())
    }

    fn with_options(backend: Backend, addrs: &[IpAddr], options: SocketOptions) -> Self {
        Bench::over(backend, bind(addrs, 0, options).unwrap())
    }

    fn over(backend: Backend, sockets: SocketSet) -> Self {
        let parker = Parker::new().unwrap();
        let choice = match backend {
            Backend::Uring => BackendChoice::Uring,
            Backend::Mmsg => BackendChoice::Mmsg,
        };
        let (io, opened, why) = open(choice, sockets, &parker).unwrap();
        assert_eq!(opened, backend);
        assert!(!why.is_empty());
        Bench { io, parker, tx: TxBatch::new(), rx: RxBatch::new() }
    }

    fn addr(&self) -> SocketAddr {
        self.io.local_addrs()[0]
    }

    fn send(&mut self, bytes: &[u8], to: SocketAddr, socket: u8) {
        self.tx.reserve(bytes.len()).expect("room")[..bytes.len()].copy_from_slice(bytes);
        self.tx.commit(bytes.len(), to, SocketId(socket));
    }

    fn turn(&mut self, wait: Wait) -> TurnReport {
        let report = self.io.turn(&mut self.tx, &mut self.rx, wait).unwrap();
        assert!(self.tx.is_empty());
        assert_eq!(report.received as usize, self.rx.len());
        report
    }

    /// Turns until `count` datagrams have come; all of them.
    fn receive(&mut self, count: usize) -> Vec<(Vec<u8>, SocketAddr, SocketId)> {
        let deadline = Instant::now() + PATIENCE;
        let mut received = Vec::new();
        while received.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} datagrams came", received.len());
            self.turn(Wait::Until(left));
            for i in 0..self.rx.len() {
                let datagram = *self.rx.datagram(i);
                received.push((self.rx.bytes(i).to_vec(), datagram.source, datagram.socket));
            }
        }
        received
    }
}

fn client(addr: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((addr, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn take(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 65536];
    let (len, source) = socket.recv_from(&mut buffer).expect("a datagram");
    (buffer[..len].to_vec(), source)
}

fn both_families_send_and_receive(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4, V6]);
    let clients = [client(V4), client(V6)];
    let addrs: Vec<_> = bench.io.local_addrs().to_vec();
    for (socket, (client, &addr)) in clients.iter().zip(&addrs).enumerate() {
        let from = client.local_addr().unwrap();
        client.send_to(b"ping", addr).unwrap();
        let received = bench.receive(1);
        assert_eq!(received, [(b"ping".to_vec(), from, SocketId(socket as u8))]);
        bench.send(b"pong", from, socket as u8);
        let report = bench.turn(Wait::Poll);
        assert_eq!((report.sent_datagrams, report.sent_trains, report.send_failed), (1, 1, 0));
        assert_eq!(take(client), (b"pong".to_vec(), addr));
    }
}

fn trains_arrive_as_datagrams(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4, V6]);
    for (socket, ip) in [(0, V4), (1, V6)] {
        let client = client(ip);
        let to = client.local_addr().unwrap();
        let sizes = [1200, 1200, 1200, 700, 900, 900, 1];
        for (i, &size) in sizes.iter().enumerate() {
            bench.send(&vec![i as u8; size], to, socket);
        }
        let report = bench.turn(Wait::Poll);
        assert_eq!((report.sent_datagrams, report.sent_trains, report.send_failed), (7, 2, 0));
        for (i, &size) in sizes.iter().enumerate() {
            assert_eq!(take(&client).0, vec![i as u8; size]);
        }
    }
}

fn more_trains_than_one_vector_are_all_sent(backend: Backend) {
    const DATAGRAMS: usize = 1500;
    let mut bench = Bench::new(backend, &[V4]);
    let mut receiver = Bench::new(Backend::Mmsg, &[V4]);
    let to = receiver.addr();
    for i in 0..DATAGRAMS {
        // Growing sizes, so that each is a train of its own.
        let mut bytes = vec![0; 2 + i % 200];
        bytes[..2].copy_from_slice(&(i as u16).to_be_bytes());
        bench.send(&bytes, to, 0);
    }
    let trains = bench.tx.trains().len() as u32;
    assert!(trains as usize > 2 * super::send::SEND_VECTOR);
    let report = bench.turn(Wait::Poll);
    assert_eq!((report.sent_datagrams, report.send_failed), (DATAGRAMS as u32, 0));
    assert_eq!(report.sent_trains, trains);
    assert_eq!(report.send_calls, trains.div_ceil(super::send::SEND_VECTOR as u32));
    for (i, (bytes, ..)) in receiver.receive(DATAGRAMS).into_iter().enumerate() {
        assert_eq!(bytes[..2], (i as u16).to_be_bytes());
    }
}

fn ten_thousand_paced_datagrams_come_back_without_loss(backend: Backend) {
    const ROUNDS: usize = 100;
    const PER_ROUND: usize = 100;
    let mut echo = Bench::new(backend, &[V4]);
    let mut source = Bench::new(backend, &[V4]);
    let (to, back) = (echo.addr(), source.addr());
    for round in 0..ROUNDS {
        for i in 0..PER_ROUND {
            let mut bytes = [0; 1200];
            bytes[..2].copy_from_slice(&((round * PER_ROUND + i) as u16).to_be_bytes());
            source.send(&bytes, to, 0);
        }
        source.turn(Wait::Poll);
        for (bytes, ..) in echo.receive(PER_ROUND) {
            echo.send(&bytes, back, 0);
        }
        echo.turn(Wait::Poll);
        for (i, (bytes, from, _)) in source.receive(PER_ROUND).into_iter().enumerate() {
            assert_eq!(bytes[..2], ((round * PER_ROUND + i) as u16).to_be_bytes());
            assert_eq!((bytes.len(), from), (1200, to));
        }
    }
}

fn received_bytes_can_be_changed_in_place(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    let client = client(V4);
    for round in 0..3_u8 {
        for i in 0..3_u8 {
            client.send_to(&[round, i, 0xff], bench.addr()).unwrap();
        }
        let mut seen = 0;
        while seen < 3 {
            bench.turn(Wait::Until(PATIENCE));
            for i in 0..bench.rx.len() {
                bench.rx.bytes_mut(i)[2] = 0;
            }
            for i in 0..bench.rx.len() {
                assert_eq!(bench.rx.bytes(i), [round, seen, 0]);
                seen += 1;
            }
        }
    }
}

fn timeouts_are_honoured(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    bench.turn(Wait::Poll);
    let mut look = || {
        let slept = sleeps();
        assert_eq!(bench.turn(Wait::Poll), TurnReport::default());
        sleeps() - slept
    };
    // The kernel may make any call wait for a lock, but not all.
    let fewest = (0..10).map(|_| look()).min().expect("ten");
    assert_eq!(fewest, 0, "a look is no sleep");
    for timeout in [0, 500, 30_000].map(Duration::from_micros) {
        let mut sleep = || {
            let start = Instant::now();
            assert_eq!(bench.turn(Wait::Until(timeout)), TurnReport::default());
            start.elapsed()
        };
        // What else the machine does only prolongs them, but not all.
        let shortest = (0..10).map(|_| sleep()).min().expect("ten");
        assert!(shortest >= timeout, "{shortest:?} instead of {timeout:?}");
        assert!(shortest < timeout + Duration::from_millis(500), "{shortest:?}");
    }
    // Sending must not cut the sleep short.
    let client = client(V4);
    bench.send(b"x", client.local_addr().unwrap(), 0);
    let start = Instant::now();
    assert_eq!(bench.turn(Wait::Until(Duration::from_millis(30))).sent_datagrams, 1);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

/// How often this thread has given up the processor by itself.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("proc(5)").trim().parse().unwrap()
}

fn another_thread_wakes_a_sleeper(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    let unparker = bench.parker.unparker();
    let (mut latencies, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let unparker = unparker.clone();
        bench.parker.prepare();
        let waker = wake_later(move || unparker.wake());
        let report = bench.turn(Wait::Until(PATIENCE));
        let now = Instant::now();
        bench.parker.done();
        assert!(report.woken);
        latencies.push(now.saturating_duration_since(waker.join().unwrap()));

        // The same by the standard library, for what the machine takes for it now.
        let sleeper = std::thread::current();
        let waker = wake_later(move || sleeper.unpark());
        std::thread::park();
        let now = Instant::now();
        reference.push(now.saturating_duration_since(waker.join().unwrap()));
    }
    latencies.sort();
    reference.sort();
    let bar = Duration::from_millis(5) + 2 * reference[10];
    assert!(latencies[10] < bar, "{latencies:?}, reference {reference:?}");
    assert!(!bench.turn(Wait::Poll).woken, "a wake-up counts once");
}

/// Wakes after a while, in which the sleeper falls asleep; then says when that was.
fn wake_later(wake: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<Instant> {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        let woken_at = Instant::now();
        wake();
        woken_at
    })
}

fn feedback_wakes_nobody_and_arrives(backend: Backend) {
    const FEEDBACK: [u8; 12] = [0x8f, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];
    for addr in [V4, V6] {
        let mut bench = Bench::new(backend, &[V4, V6]);
        let socket = u8::from(addr == V6);
        let server = bench.io.local_addrs()[usize::from(socket)];
        let client = client(addr);
        let source = client.local_addr().unwrap();
        bench.turn(Wait::Poll);
        let send_while_asleep = |bench: &mut Bench, datagrams: [&[u8]; 2], timeout| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(50));
                    for datagram in datagrams {
                        client.send_to(datagram, server).unwrap();
                    }
                });
                let start = Instant::now();
                let report = bench.turn(Wait::Until(timeout));
                (report.received, start.elapsed())
            })
        };
        let timeout = Duration::from_millis(150);
        // Padding is no difference.
        let mut padded = FEEDBACK;
        padded[0] |= 0x20;
        let (received, elapsed) = send_while_asleep(&mut bench, [&FEEDBACK, &padded], timeout);
        assert!(received == 0 && elapsed >= timeout, "{received} after {elapsed:?}");
        let found = bench.receive(2);
        assert_eq!(found[0], (FEEDBACK.to_vec(), source, SocketId(socket)));
        assert_eq!(found[1], (padded.to_vec(), source, SocketId(socket)));

        // A compound begins with a report, and what is shorter than a header may be anything.
        let (received, elapsed) = send_while_asleep(&mut bench, [&REPORT, &[0x8f]], PATIENCE);
        assert!(received > 0 && elapsed < PATIENCE, "{received} after {elapsed:?}");
    }
}

fn much_feedback_is_read_while_the_core_is_awake(backend: Backend) {
    const FLOOD: u32 = 500;
    let mut bench = Bench::new(backend, &[V4]);
    bench.turn(Wait::Poll);
    let client = client(V4);
    for i in 0..FLOOD {
        let mut feedback = vec![0x8f, 205, 0, 1];
        feedback.extend(i.to_be_bytes());
        client.send_to(&feedback, bench.addr()).unwrap();
    }
    // Other packets come all the time and must not keep the core from it.
    let (mut feedbacks, deadline) = (0, Instant::now() + PATIENCE);
    while feedbacks < FLOOD {
        assert!(Instant::now() < deadline, "{feedbacks} of {FLOOD} came");
        client.send_to(b"media", bench.addr()).unwrap();
        bench.turn(Wait::Until(PATIENCE));
        for i in 0..bench.rx.len() {
            let Some(number) = bench.rx.bytes(i).strip_prefix(&[0x8f, 205, 0, 1]) else { continue };
            assert_eq!(number, feedbacks.to_be_bytes(), "in order");
            feedbacks += 1;
        }
    }
}

fn feedback_is_read_at_once_in_a_hurry(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    bench.turn(Wait::Poll);
    let client = client(V4);
    for i in 0..20_u8 {
        client.send_to(&[0x8f, 205, 0, 1, 0, 0, 0, i], bench.addr()).unwrap();
        bench.io.hurry();
        assert_eq!(bench.turn(Wait::Poll).received, 1, "{i}");
        assert_eq!(bench.rx.bytes(0).last(), Some(&i));
    }
}

fn cores_wake_each_other(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    let mut peer = Bench::new(backend, &[V4]);
    let (to_peer, to_bench) = (peer.parker.unparker(), bench.parker.unparker());
    let (up, is_up) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // The first turn makes this thread the backend's owner.
        peer.turn(Wait::Poll);
        for _ in 0..50 {
            peer.parker.prepare();
            up.send(()).unwrap();
            while !peer.turn(Wait::Until(PATIENCE)).woken {}
            peer.parker.done();
            peer.io.wake_peer(&to_bench);
            peer.turn(Wait::Poll);
        }
        peer
    });
    for _ in 0..50 {
        is_up.recv().unwrap();
        bench.parker.prepare();
        bench.io.wake_peer(&to_peer);
        let start = Instant::now();
        while !bench.turn(Wait::Until(PATIENCE)).woken {
            assert!(start.elapsed() < PATIENCE, "the peer did not answer");
        }
        bench.parker.done();
    }
    thread.join().unwrap();
}

fn a_peer_that_is_gone_or_awake_does_no_harm(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    let peer = Bench::new(backend, &[V4]);
    let unparker = peer.parker.unparker();
    bench.io.wake_peer(&unparker);
    bench.turn(Wait::Poll);
    peer.parker.prepare();
    drop(peer);
    for _ in 0..3 {
        bench.io.wake_peer(&unparker);
        bench.turn(Wait::Poll);
    }
    let client = client(V4);
    client.send_to(b"x", bench.addr()).unwrap();
    assert_eq!(bench.receive(1).len(), 1);
}

fn a_flood_recovers(backend: Backend) {
    // More datagrams than there are slots, sent before the backend looks.
    const FLOOD: usize = 2000;
    let mut bench = Bench::new(backend, &[V4]);
    let client = client(V4);
    client.send_to(b"first", bench.addr()).unwrap();
    assert_eq!(bench.receive(1).len(), 1);
    for i in 0..FLOOD {
        client.send_to(&(i as u16).to_be_bytes(), bench.addr()).unwrap();
    }
    for (i, (bytes, ..)) in bench.receive(FLOOD).into_iter().enumerate() {
        assert_eq!(bytes, (i as u16).to_be_bytes(), "order is kept");
    }
    client.send_to(b"last", bench.addr()).unwrap();
    assert_eq!(bench.receive(1)[0].0, b"last");
}

fn a_flood_beyond_the_socket_buffer_recovers(backend: Backend) {
    let options = SocketOptions { receive_buffer_size: 16 << 10, ..Default::default() };
    let mut bench = Bench::with_options(backend, &[V4], options);
    let client = client(V4);
    for _ in 0..3 {
        for _ in 0..500 {
            client.send_to(&[0; 1200], bench.addr()).unwrap();
        }
        let mut received = 0;
        while bench.turn(Wait::Until(Duration::from_millis(20))).received > 0 {
            received += bench.rx.len();
        }
        assert!(received > 0 && received < 500, "{received}");
    }
    client.send_to(b"after", bench.addr()).unwrap();
    assert_eq!(bench.receive(1)[0].0, b"after");
}

fn oversized_datagrams_are_dropped_and_counted(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    let client = client(V4);
    client.send_to(&[1; MAX_DATAGRAM], bench.addr()).unwrap();
    client.send_to(&[2; MAX_DATAGRAM + 1], bench.addr()).unwrap();
    client.send_to(&[], bench.addr()).unwrap();
    client.send_to(b"end", bench.addr()).unwrap();
    let (mut truncated, mut lengths) = (0, Vec::new());
    while lengths.last() != Some(&3) {
        let report = bench.turn(Wait::Until(PATIENCE));
        assert_ne!(report, TurnReport::default(), "time is up");
        truncated += report.truncated;
        lengths.extend((0..bench.rx.len()).map(|i| bench.rx.bytes(i).len()));
    }
    assert_eq!((truncated, lengths), (1, vec![MAX_DATAGRAM, 0, 3]));
}

fn refused_sends_are_counted_and_nothing_else(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4]);
    let good = client(V4);
    let closed = {
        let socket = client(V4);
        socket.local_addr().unwrap()
    };
    let bad: [SocketAddr; 3] = [
        "[::1]:9".parse().unwrap(),           // another family than the socket's
        "127.0.0.1:0".parse().unwrap(),       // no such port
        "255.255.255.255:9".parse().unwrap(), // broadcast without permission
    ];
    for _ in 0..3 {
        for addr in bad {
            bench.send(b"bad", addr, 0);
            bench.send(b"bad", addr, 0);
        }
        bench.send(b"no such socket", good.local_addr().unwrap(), 7);
        bench.send(b"nobody listens", closed, 0);
        bench.send(b"good", good.local_addr().unwrap(), 0);
        let report = bench.turn(Wait::Poll);
        assert_eq!((report.send_failed, report.sent_datagrams), (7, 2));
        assert_eq!(take(&good).0, b"good");
        good.send_to(b"still there", bench.addr()).unwrap();
        assert_eq!(bench.receive(1)[0].0, b"still there");
    }
}

fn trains_beyond_the_mtu_are_sent_segment_by_segment(backend: Backend) {
    let sockets = bind(&[V6, V4], 0, SocketOptions::default()).unwrap();
    let fd = sockets.fds().next().unwrap();
    let mtu = 1280_i32;
    let size = size_of::<i32>() as u32;
    let value = (&raw const mtu).cast();
    // SAFETY: the pointer and the size are of `mtu`.
    let result = unsafe { libc::setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU, value, size) };
    assert_eq!(result, 0);
    let mut bench = Bench::over(backend, sockets);
    let (wide, narrow) = (client(V4), client(V6));
    for _ in 0..2 {
        for (socket, client) in [(0, &narrow), (1, &wide)] {
            for i in 0..3 {
                bench.send(&[i; 1500], client.local_addr().unwrap(), socket);
            }
        }
        let report = bench.turn(Wait::Poll);
        // The narrow path's train comes apart, and says nothing about the wide one's.
        assert_eq!((report.sent_datagrams, report.sent_trains, report.send_failed), (6, 4, 0));
        for i in 0..3 {
            assert_eq!(take(&narrow).0, [i; 1500]);
            assert_eq!(take(&wide).0, [i; 1500]);
        }
    }
}

fn turns_take_nothing_from_the_heap(backend: Backend) {
    let mut bench = Bench::new(backend, &[V4, V6]);
    let mut peer = Bench::new(backend, &[V4]);
    let (to, back) = (bench.addr(), peer.addr());
    peer.turn(Wait::Poll);
    let unparker = peer.parker.unparker();
    let mut round = |datagrams: usize| {
        for i in 0..datagrams {
            bench.send(&[0; 1000], back, 0);
            bench.send(&[1; 500], if i % 8 == 0 { back } else { to }, 0);
            bench.send(b"refused", SocketAddr::from(([127, 0, 0, 1], 0)), 0);
        }
        peer.parker.prepare();
        bench.io.wake_peer(&unparker);
        bench.turn(Wait::Until(Duration::from_millis(1)));
        peer.turn(Wait::Poll);
        peer.parker.done();
        bench.rx.len() + peer.rx.len()
    };
    round(50);
    let mut received = 0;
    let taken = allocation_counter::measure(|| {
        for _ in 0..20 {
            received += round(100);
        }
    });
    assert!(received > 1000, "{received}");
    assert_eq!(taken.count_total, 0);
    let noticed = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(received))));
    assert_eq!(noticed.count_total, 1, "allocations are counted");
}

fn a_replaced_backend_keeps_the_port(backend: Backend) {
    let sockets = bind(&[V4], 0, SocketOptions::default()).unwrap();
    let addr = sockets.local_addrs()[0];
    let client = client(V4);
    for round in 0..5_u8 {
        let mut bench = Bench::over(backend, sockets.clone());
        assert_eq!(bench.addr(), addr);
        if round > 0 {
            assert_eq!(bench.receive(1)[0].0, [round - 1], "it waited for the new backend");
        }
        client.send_to(b"now", addr).unwrap();
        assert_eq!(bench.receive(1)[0].0, b"now");
        drop(bench);
        client.send_to(&[round], addr).unwrap();
    }
}

macro_rules! conformance {
    ($($backend:ident => $module:ident),+) => {$(
        mod $module {
            use super::super::Backend;

            conformance!(@tests $backend
                both_families_send_and_receive,
                trains_arrive_as_datagrams,
                more_trains_than_one_vector_are_all_sent,
                ten_thousand_paced_datagrams_come_back_without_loss,
                received_bytes_can_be_changed_in_place,
                timeouts_are_honoured,
                another_thread_wakes_a_sleeper,
                feedback_wakes_nobody_and_arrives,
                much_feedback_is_read_while_the_core_is_awake,
                feedback_is_read_at_once_in_a_hurry,
                cores_wake_each_other,
                a_peer_that_is_gone_or_awake_does_no_harm,
                a_flood_recovers,
                a_flood_beyond_the_socket_buffer_recovers,
                oversized_datagrams_are_dropped_and_counted,
                refused_sends_are_counted_and_nothing_else,
                trains_beyond_the_mtu_are_sent_segment_by_segment,
                turns_take_nothing_from_the_heap,
                a_replaced_backend_keeps_the_port,
            );
        }
    )+};
    (@tests $backend:ident $($test:ident,)+) => {$(
        #[test]
        fn $test() {
            super::$test(Backend::$backend);
        }
    )+};
}

conformance!(Mmsg => mmsg, Uring => uring);
