//! What arrives: the caller reads into it, the core takes frames out of it.

use alloc::collections::VecDeque;
use core::{fmt, mem};

use bytes::{Bytes, BytesMut};

/// The space that an idle connection keeps.
const IDLE: usize = 4 * 1024;

/// The space that a busy connection reads into.
const BUSY: usize = 64 * 1024;

/// After how many small arrivals in a row a busy buffer becomes an idle one.
const QUIET: u8 = 16;

/// How many pieces of memory a busy buffer keeps in sight while what was taken out of them is in use: as much as a consumer that is
/// a little behind holds. To free and to get them again costs more than what arrives in them.
const SPENT: usize = 8;

/// What a buffer holds at most unless it is told otherwise: two of RabbitMQ's largest frames.
const LIMIT: usize = 256 * 1024;

/// Where the caller reads octets into.
///
/// ```
/// # use std::io::Read;
/// use amqp_proto::RecvBuf;
///
/// # fn read_some(mut socket: impl Read) -> std::io::Result<()> {
/// let mut input = RecvBuf::new();
/// let count = socket.read(input.spare_mut())?;
/// input.advance(count);
/// # Ok(())
/// # }
/// # read_some(&b"\x08\0\0\0\0\0\0\xce"[..]).unwrap();
/// ```
///
/// It takes 4 KiB while little arrives and up to 64 KiB under load, more only while a larger frame is arriving (it doubles
/// with what is there, whatever a frame declares), and goes back when it is quiet again. What is [taken](Self::take) out
/// shares the buffer's memory without a copy, and that memory is read into again once nothing taken out is left; a busy buffer
/// keeps up to eight such pieces of at most 64 KiB. It never holds more than its limit, 256 KiB unless
/// [`with_limit`](Self::with_limit) says otherwise: unread octets are the back-pressure.
#[derive(Default)]
pub struct RecvBuf {
    /// What arrived, ready to be taken in many pieces. If there is something, `storage` has only room.
    arrived: Bytes,
    /// `filled` octets that arrived, then octets to read into.
    storage: BytesMut,
    /// The size of the memory behind `storage`, which itself does not count what was consumed of it.
    memory: usize,
    filled: usize,
    /// Memory that was full, oldest first, which what was taken out of it shares.
    spent: VecDeque<BytesMut>,
    limit: Limit,
    space: Space,
}

impl RecvBuf {
    /// An empty buffer; allocates when it is first read into.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer that holds at most `octets`; at least 4096, since no frame is smaller than that allows.
    #[must_use]
    pub fn with_limit(octets: usize) -> Self {
        Self {
            limit: Limit(octets.max(IDLE)),
            ..Self::default()
        }
    }

    /// Makes room for a frame of that many octets to become whole: raises the limit to it if it is lower. Allocates nothing.
    pub fn raise_limit(&mut self, octets: usize) {
        self.limit.0 = self.limit.0.max(octets);
    }

    /// Where to read into; empty if the buffer [is full](Self::is_full): a read of nothing into that is not the peer's end. Tell [`advance`](Self::advance) how much it was.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        if self.is_full() {
            return &mut [];
        }
        if !self.arrived.is_empty() {
            self.put_back();
        }
        if self.filled == 0 && self.space.is_to_shrink(self.memory) {
            self.give_back();
        }
        if self.storage.len() - self.filled < self.space.smallest_spare().min(self.limit.0 - self.filled) {
            self.make_spare();
        }
        let end = self.storage.len().min(self.limit.0);
        self.storage.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Says how many octets were read into [`spare_mut`](Self::spare_mut); more than it had is taken for all it had.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.storage.len() - self.filled);
        if count == 0 {
            return;
        }
        self.filled += count;
        self.space.note_arrival(count, self.filled == self.storage.len());
    }

    /// Copies octets in, as many as the limit allows, and says how many those were.
    pub fn extend(&mut self, octets: &[u8]) -> usize {
        let mut rest = octets;
        while !rest.is_empty()
            && let spare @ [_, ..] = self.spare_mut()
        {
            let (now, later) = rest.split_at(rest.len().min(spare.len()));
            if let Some(place) = spare.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            self.advance(now.len());
            rest = later;
        }
        octets.len() - rest.len()
    }

    /// Whether nothing more fits until something is consumed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.arrived.len() + self.filled >= self.limit.0
    }

    /// What has arrived and was not consumed.
    #[must_use]
    #[inline]
    pub fn unread(&self) -> &[u8] {
        match self.arrived.is_empty() {
            true => self.storage.get(..self.filled).unwrap_or_default(),
            false => &self.arrived,
        }
    }

    /// Drops the first octets that are unread; at most all of them.
    pub fn consume(&mut self, count: usize) {
        if !self.arrived.is_empty() {
            // What is split off and dropped takes its share of the memory along, `advance` would not.
            drop(self.take_arrived(count));
            return;
        }
        let count = count.min(self.filled);
        bytes::Buf::advance(&mut self.storage, count);
        self.filled -= count;
    }

    /// Takes the first octets that are unread out, at most all of them: without a copy, they share the buffer's memory.
    ///
    /// As long as one octet of it is kept, so is the whole piece of memory (up to 64 KiB, or a large frame).
    pub fn take(&mut self, count: usize) -> Bytes {
        if !self.arrived.is_empty() {
            return self.take_arrived(count);
        }
        let count = count.min(self.filled);
        self.filled -= count;
        self.storage.split_to(count).freeze()
    }

    /// The same for the first of many small pieces, each of which costs half as much: what is left of them behind the last one is
    /// copied when more arrives.
    #[inline]
    pub(crate) fn take_small(&mut self, count: usize) -> Bytes {
        if self.arrived.is_empty() {
            let filled = mem::take(&mut self.filled);
            self.arrived = self.storage.split_to(filled).freeze();
        }
        self.take_arrived(count)
    }

    #[inline]
    fn take_arrived(&mut self, count: usize) -> Bytes {
        self.arrived.split_to(count.min(self.arrived.len()))
    }

    /// Makes what is left of the small pieces contiguous with what arrives next.
    fn put_back(&mut self) {
        let left = self.arrived.len();
        if self.storage.len() < left + self.space.smallest_spare() {
            return self.make_spare();
        }
        if let Some(place) = self.storage.get_mut(..left) {
            place.copy_from_slice(&self.arrived);
        }
        self.arrived = Bytes::new();
        self.filled = left;
    }

    /// Gives memory back now: keeps what is unread, and starts small again.
    pub fn shrink(&mut self) {
        self.space = Space::default();
        self.give_back();
    }

    /// How many octets of memory it reads into, taken pieces not counted.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.storage.capacity()
    }

    /// Gets more room behind what is unread: the memory that was taken out before if nothing of it is left, else new. Only
    /// what is unread is ever copied.
    #[cold]
    fn make_spare(&mut self) {
        let unread = self.unread().len();
        let wanted = self
            .space
            .wanted()
            .max(unread.saturating_mul(2))
            .min(self.limit.0);
        self.storage.truncate(self.filled);
        // Not `reserve`, which doubles, and keeps the octets before the unread ones too.
        if !self.arrived.is_empty() || !self.storage.try_reclaim(wanted - unread) {
            self.move_to(wanted);
        }
        self.memory = self.memory.max(self.storage.capacity());
        self.storage.resize(wanted, 0);
    }

    /// Keeps what is unread, in other memory of that size at least: in some that was full and is free again, or new.
    fn move_to(&mut self, capacity: usize) {
        let is_free = |memory: &mut BytesMut| memory.try_reclaim(capacity);
        let storage = match self.spent.front_mut().is_some_and(is_free) {
            true => self.spent.pop_front().unwrap_or_default(),
            false => BytesMut::with_capacity(capacity),
        };
        let mut full = self.replace(storage);
        let memory = mem::replace(&mut self.memory, self.storage.capacity());
        if memory == BUSY {
            full.clear();
            if self.spent.len() == SPENT {
                self.spent.pop_front();
            }
            self.spent.push_back(full);
        }
    }

    /// Copies what is unread to there and goes on with that; gives what there was before.
    fn replace(&mut self, mut storage: BytesMut) -> BytesMut {
        storage.extend_from_slice(self.unread());
        self.arrived = Bytes::new();
        self.filled = storage.len();
        mem::replace(&mut self.storage, storage)
    }

    /// Keeps what is unread, in new memory of just that size.
    fn give_back(&mut self) {
        self.spent = VecDeque::new();
        let storage = BytesMut::with_capacity(self.unread().len());
        self.replace(storage);
        self.memory = self.storage.capacity();
    }
}

struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT)
    }
}

/// How much space to keep: doubles when a read fills it, falls back when only little arrives for a while.
struct Space {
    wanted: usize,
    small_arrivals: u8,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            wanted: IDLE,
            small_arrivals: 0,
        }
    }
}

impl Space {
    const fn wanted(&self) -> usize {
        self.wanted
    }

    /// Less spare room than this is not worth a system call.
    const fn smallest_spare(&self) -> usize {
        self.wanted / 8
    }

    fn note_arrival(&mut self, count: usize, filled_it: bool) {
        if filled_it {
            self.wanted = (self.wanted * 2).min(BUSY);
        }
        self.small_arrivals = if count > IDLE / 2 {
            0
        } else {
            self.small_arrivals.saturating_add(1)
        };
    }

    /// Whether it is time to fall back; says so once. The space may have grown for a frame that no single read filled it with.
    fn is_to_shrink(&mut self, memory: usize) -> bool {
        let is_quiet = self.small_arrivals >= QUIET && (self.wanted > IDLE || memory > IDLE);
        if is_quiet {
            *self = Self::default();
        }
        is_quiet
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuf")
            .field("unread", &self.unread().len())
            .field("capacity", &self.capacity())
            .field("limit", &self.limit.0)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// As a socket would: fills the spare room with at most `count` octets, counting up.
    fn arrive(buffer: &mut RecvBuf, count: usize) -> usize {
        let spare = buffer.spare_mut();
        let count = count.min(spare.len());
        for (octet, value) in spare.iter_mut().zip((0..count).map(|i| i.to_le_bytes()[0])) {
            *octet = value;
        }
        buffer.advance(count);
        count
    }

    #[test]
    fn a_new_buffer_holds_nothing_and_an_idle_one_4_kib() {
        let mut buffer = RecvBuf::new();
        assert_eq!(buffer.capacity(), 0);
        arrive(&mut buffer, 8);
        assert_eq!((buffer.unread().len(), buffer.capacity()), (8, IDLE));
    }

    #[test]
    fn it_grows_while_reads_fill_it_and_shrinks_after_sixteen_small_ones() {
        let mut buffer = RecvBuf::new();
        for _ in 0..10 {
            let count = arrive(&mut buffer, usize::MAX);
            buffer.consume(count);
        }
        assert_eq!(buffer.spare_mut().len(), BUSY);
        for _ in 0..QUIET - 1 {
            arrive(&mut buffer, 100);
            buffer.consume(100);
        }
        assert!(buffer.spare_mut().len() > BUSY / 2);
        arrive(&mut buffer, 100);
        buffer.consume(100);
        assert_eq!(buffer.spare_mut().len(), IDLE);
        assert_eq!(buffer.capacity(), IDLE);
    }

    #[test]
    fn one_that_grew_without_being_filled_shrinks_too() {
        let mut buffer = RecvBuf::new();
        while buffer.unread().len() < 50_000 {
            let count = buffer.spare_mut().len() - 1;
            arrive(&mut buffer, count);
        }
        buffer.consume(usize::MAX);
        for _ in 0..=QUIET {
            arrive(&mut buffer, 100);
            buffer.consume(100);
        }
        buffer.spare_mut();
        assert!(buffer.capacity() <= IDLE, "{}", buffer.capacity());
    }

    #[test]
    fn memory_that_no_read_filled_and_that_consuming_hides_is_given_back_too() {
        let mut buffer = RecvBuf::new();
        for _ in 0..10 {
            arrive(&mut buffer, 500);
        }
        assert!(buffer.memory > IDLE);
        buffer.consume(4900);
        assert!(buffer.capacity() < IDLE);
        for _ in 0..QUIET {
            buffer.consume(usize::MAX);
            arrive(&mut buffer, 1);
        }
        assert_eq!(buffer.memory, IDLE);
    }

    #[test]
    fn a_large_arrival_in_between_keeps_it_large() {
        let mut buffer = RecvBuf::new();
        for round in 0..100 {
            let count = arrive(&mut buffer, if round % 10 == 0 { usize::MAX } else { 100 });
            buffer.consume(count);
        }
        assert!(buffer.capacity() > IDLE);
    }

    #[test]
    fn the_limit_holds_and_consuming_makes_room_again() {
        let mut buffer = RecvBuf::with_limit(10_000);
        assert_eq!(buffer.extend(&[7; 20_000]), 10_000);
        assert!(buffer.is_full());
        assert!(buffer.spare_mut().is_empty());
        assert_eq!(buffer.extend(b"more"), 0);
        buffer.consume(1);
        assert!(!buffer.is_full());
        assert_eq!(buffer.extend(b"more"), 1);
        buffer.raise_limit(10_002);
        assert_eq!(buffer.extend(b"more"), 2);
        buffer.raise_limit(1);
        assert!(buffer.is_full());
        assert_eq!(buffer.unread().len(), 10_002);
        assert!(buffer.capacity() < 32_000);
    }

    #[test]
    fn a_busy_buffer_takes_64_kib_and_no_more_whatever_is_left_over() {
        let mut buffer = RecvBuf::new();
        for step in 1..200 {
            arrive(&mut buffer, usize::MAX);
            let unread = buffer.unread().len();
            let kept = buffer.take(unread - step * 97 % 30_000 % unread);
            assert!(buffer.capacity() <= BUSY, "{} in step {step}", buffer.capacity());
            drop(kept);
        }
    }

    #[test]
    fn a_limit_is_never_under_4096() {
        assert_eq!(RecvBuf::with_limit(0).extend(&[1; 5000]), 4096);
    }

    #[test]
    fn octets_come_out_as_they_went_in_whatever_the_pieces() {
        let octets: Vec<u8> = (0..300_000u32).map(|i| i.to_le_bytes()[1]).collect();
        let mut buffer = RecvBuf::with_limit(70_000);
        let (mut sent, mut kept, mut received) = (0, Vec::new(), Vec::new());
        for step in 1.. {
            sent += buffer.extend(&octets[sent..(sent + step * 37 % 9_000).min(octets.len())]);
            let wanted = step * 31 % 8_000;
            if step % 3 == 0 {
                let unread = buffer.unread();
                received.extend_from_slice(&unread[..wanted.min(unread.len())]);
                buffer.consume(wanted);
            } else {
                let piece = match step % 3 {
                    1 => buffer.take(wanted),
                    _ => buffer.take_small(wanted),
                };
                received.extend_from_slice(&piece);
                kept.push(piece);
            }
            if step % 5 == 0 {
                kept.clear();
            }
            if received.len() == octets.len() {
                break;
            }
        }
        assert_eq!(received, octets);
    }

    #[test]
    fn memory_is_read_into_again_once_nothing_taken_is_left() {
        let mut buffer = RecvBuf::new();
        for _ in 0..5 {
            let count = arrive(&mut buffer, usize::MAX);
            drop(buffer.take(count));
        }
        arrive(&mut buffer, usize::MAX);
        let before = buffer.unread().as_ptr();
        drop(buffer.take(usize::MAX));
        arrive(&mut buffer, usize::MAX);
        assert_eq!(buffer.unread().as_ptr(), before);
    }

    #[test]
    fn memory_is_read_into_again_although_more_was_taken_out_since() {
        let mut buffer = RecvBuf::new();
        while buffer.spare_mut().len() < BUSY {
            let count = arrive(&mut buffer, usize::MAX);
            buffer.consume(count);
        }
        let mut taken = VecDeque::new();
        for _ in 0..40 {
            arrive(&mut buffer, usize::MAX);
            taken.push_back(buffer.take(usize::MAX));
            if taken.len() > 3 {
                taken.pop_front();
            }
        }
        // Three are in use; were they not read into again, there would be more.
        assert_eq!(buffer.spent.len(), 3);
        let kept: Vec<Bytes> = (0..40)
            .map(|_| {
                arrive(&mut buffer, usize::MAX);
                buffer.take(usize::MAX)
            })
            .collect();
        assert_eq!(buffer.spent.len(), SPENT);
        drop(kept);
        buffer.shrink();
        assert!(buffer.spent.is_empty());
    }

    #[test]
    fn what_is_left_behind_small_pieces_is_put_in_front_of_what_arrives() {
        let mut buffer = RecvBuf::new();
        buffer.extend(&[1; 300]);
        let place = buffer.unread().as_ptr();
        let pieces = [buffer.take_small(100), buffer.take_small(100)];
        assert_eq!((buffer.unread(), buffer.filled), (&[1; 100][..], 0));
        buffer.extend(&[2; 50]);
        assert_eq!(buffer.unread(), [&[1; 100][..], &[2; 50]].concat());
        let behind = buffer.unread().as_ptr();
        assert_eq!(
            behind as usize - place as usize,
            300,
            "the same memory, as far as there is room"
        );
        buffer.consume(120);
        assert_eq!(buffer.take_small(usize::MAX), [2; 30][..]);
        assert!(buffer.unread().is_empty() && buffer.take_small(7).is_empty());
        assert!(pieces.iter().all(|piece| *piece == [1; 100][..]));

        // Just as much room as is worth a read.
        let mut buffer = RecvBuf::new();
        buffer.extend(&[1; 2000]);
        let place = buffer.unread().as_ptr();
        buffer.take_small(2000 - (IDLE - 2000 - IDLE / 8));
        assert_eq!(buffer.spare_mut().len(), IDLE / 8);
        assert_eq!(buffer.unread().as_ptr() as usize - place as usize, 2000);
    }

    #[test]
    fn small_pieces_fill_no_more_memory_than_others() {
        let mut buffer = RecvBuf::new();
        for round in 0..200 {
            arrive(&mut buffer, usize::MAX);
            assert!(
                buffer.capacity() <= BUSY,
                "{} in round {round}",
                buffer.capacity()
            );
            while buffer.unread().len() > 90 {
                drop(buffer.take_small(90));
            }
        }
        // Nothing is in use: two are read into by turns.
        assert_eq!(buffer.spent.len(), 1);
        assert_eq!(buffer.memory, BUSY);
        buffer.take_small(1);
        let left = buffer.unread().len();
        buffer.shrink();
        assert_eq!((buffer.unread().len(), buffer.capacity()), (left, left));
        while !buffer.unread().is_empty() {
            buffer.consume(40);
        }
        assert!(buffer.arrived.is_empty() && buffer.filled == 0);
    }

    #[test]
    fn small_pieces_count_for_the_limit() {
        let mut buffer = RecvBuf::with_limit(4096);
        buffer.extend(&[1; 4096]);
        let first = buffer.take_small(96);
        assert_eq!((buffer.is_full(), buffer.extend(&[2; 200])), (false, 96));
        assert!(buffer.is_full() && buffer.spare_mut().is_empty());
        assert_eq!(buffer.take_small(4096), [&[1; 4000][..], &[2; 96]].concat());
        drop(first);
    }

    #[test]
    fn what_was_taken_stays_as_it_was() {
        let mut buffer = RecvBuf::new();
        buffer.extend(&[1; 4096]);
        let taken = buffer.take(3000);
        buffer.extend(&[2; 9000]);
        buffer.shrink();
        assert_eq!(taken, vec![1; 3000]);
        assert_eq!(buffer.unread()[..1096], [1; 1096]);
        assert_eq!(buffer.unread()[1096..], [2; 9000]);
    }

    #[test]
    fn shrinking_an_empty_buffer_frees_it() {
        let mut buffer = RecvBuf::new();
        buffer.extend(&[1; 5000]);
        buffer.consume(usize::MAX);
        buffer.shrink();
        assert_eq!(buffer.capacity(), 0);
        assert_eq!(buffer.spare_mut().len(), IDLE);
    }
}
