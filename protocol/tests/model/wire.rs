//! What lies between the machines: parcels between hubs (lost, doubled, reordered at will) and
//! connections of the client (ordered streams that may be cut at any time).

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tidegate_protocol::frame::{ClientFrame, ServerFrame};
use tidegate_protocol::peer::PeerMessage;
use tidegate_protocol::replay::Payload;
use tidegate_protocol::session::bulk::BULK_MIN_BYTES;

/// An app message: its number, and whether it alone is worth a bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// 1, 2, 3 … in each direction.
    pub number: u8,
    /// Whether it is as long as that.
    pub heavy: bool,
}

impl Payload for Note {
    fn size_bytes(&self) -> usize {
        if self.heavy { BULK_MIN_BYTES } else { 1 }
    }
}

/// A message between two runs of two hubs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parcel {
    /// Sender.
    pub from: usize,
    /// Which run of the sender said it.
    pub from_run: u8,
    /// Receiver.
    pub to: usize,
    /// For which run of the receiver it was meant, as far as the sender knew.
    pub to_run: u8,
    /// What.
    pub message: PeerMessage<Note>,
}

/// Parcels under way. A set: order does not exist, and the same parcel twice is one (the budget of
/// doubles delivers one twice). A parcel that is never picked is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Net {
    parcels: Vec<(u64, Arc<Parcel>)>,
}

impl Hash for Net {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (mark, _) in &self.parcels {
            mark.hash(state);
        }
    }
}

impl Net {
    /// Sends it.
    pub fn post(&mut self, parcel: Parcel) {
        let mut hasher = DefaultHasher::new();
        parcel.hash(&mut hasher);
        let mark = hasher.finish();
        if let Err(place) = self.parcels.binary_search_by_key(&mark, |(mark, _)| *mark) {
            self.parcels.insert(place, (mark, Arc::new(parcel)));
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Looks at one.
    pub fn get(&self, index: usize) -> Arc<Parcel> {
        self.parcels[index].1.clone()
    }

    /// Takes one out.
    pub fn take(&mut self, index: usize) -> Arc<Parcel> {
        self.parcels.remove(index).1
    }

    /// Whether anything that this hub said is under way.
    pub fn has_words_of(&self, hub: usize) -> bool {
        self.parcels.iter().any(|(_, parcel)| parcel.from == hub)
    }

    /// Loses all.
    pub fn clear(&mut self) {
        self.parcels.clear();
    }

    /// What was meant for an earlier run never arrives: it is not worth a state.
    pub fn drop_stale(&mut self, to: usize, run: u8) {
        self.parcels.retain(|(_, parcel)| parcel.to != to || parcel.to_run == run);
    }
}

/// From the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Up {
    /// A frame.
    Frame(ClientFrame),
    /// An app message.
    Message(Note),
    /// A close frame.
    Close(u16),
    /// The stream breaks off.
    Cut,
}

/// To the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// A frame.
    Frame(Box<ServerFrame>),
    /// An app message.
    Message(Note),
    /// A close frame.
    Close(u16),
    /// The stream breaks off.
    Cut,
}

/// One connection of the client to one hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pipe {
    /// The number that both sides know it by.
    pub id: u32,
    /// To which hub.
    pub hub: usize,
    /// Under way to the hub.
    pub up: VecDeque<Up>,
    /// Under way to the client.
    pub down: VecDeque<Down>,
    /// Whether the hub still reads and writes it.
    pub hub_open: bool,
    /// Whether the client still reads and writes it.
    pub client_open: bool,
}

impl Pipe {
    /// A fresh one.
    pub fn new(id: u32, hub: usize) -> Self {
        Self { id, hub, up: VecDeque::new(), down: VecDeque::new(), hub_open: true, client_open: true }
    }

    /// The hub writes.
    pub fn write(&mut self, item: Down) {
        if self.hub_open && self.client_open {
            self.down.push_back(item);
        }
    }

    /// The client writes.
    pub fn send(&mut self, item: Up) {
        if self.hub_open && self.client_open {
            self.up.push_back(item);
        }
    }

    /// The hub closes: what it wrote before still arrives.
    pub fn hub_closes(&mut self, last: Down) {
        self.write(last);
        self.hub_open = false;
        self.up.clear();
    }

    /// The client closes: what it wrote before still arrives.
    pub fn client_closes(&mut self, last: Up) {
        self.send(last);
        self.client_open = false;
        self.down.clear();
    }

    /// The network cuts it; what was under way to the client is lost, to the hub if `lose_up`.
    pub fn cut(&mut self, lose_up: bool) {
        if lose_up {
            self.up.clear();
        }
        self.down.clear();
        if self.hub_open {
            self.up.push_back(Up::Cut);
        }
        if self.client_open {
            self.down.push_back(Down::Cut);
        }
    }

    /// Whether nobody will look at it again.
    pub fn is_over(&self) -> bool {
        !self.hub_open && !self.client_open
    }
}
