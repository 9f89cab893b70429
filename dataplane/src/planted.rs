//! Faults made on purpose, one for each checker of the simulator (`bench/sim`), which must find it.
//! Without the feature `planted`, which nothing but its tests turns on, there are none and this
//! costs nothing.
#![forbid(unsafe_code)]

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Every fourth retransmission takes the number of the one before.
    IndexTwice,
    /// Duplicates are dropped without being counted.
    UncountedDrop,
    /// A switch of layers leaves out a sequence number.
    GapAtSwitch,
    /// Producers are offered to other rooms, too.
    OtherRoom,
    /// A consumer goes on while it is paused.
    PauseIgnored,
    /// A transport that closes leaves its user fragment behind.
    UfragKept,
    /// The last consumer on a core leaves, and its pipe stays open.
    PipeKept,
    /// One consumer in four is not resumed.
    ResumeLost,
    /// One consumer in four stays in the records when it is closed.
    RecordKept,
    /// A new core sends again under the last numbers that the one before had reserved.
    BlockTwice,
    /// A new core does not know where the clients are.
    PlaceForgotten,
    /// Clients are told that their consumers go on with a new core.
    DeathTold,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 12] = [
        Bug::IndexTwice,
        Bug::UncountedDrop,
        Bug::GapAtSwitch,
        Bug::OtherRoom,
        Bug::PauseIgnored,
        Bug::UfragKept,
        Bug::PipeKept,
        Bug::ResumeLost,
        Bug::RecordKept,
        Bug::BlockTwice,
        Bug::PlaceForgotten,
        Bug::DeathTold,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static BUG: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in what this thread runs from now on; `None`: none.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    BUG.set(bug);
}

/// Whether this fault is planted.
#[cfg(feature = "planted")]
pub fn is(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// Whether this fault is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}
