//! What is to be written, frame by frame, for a tap.

use alloc::vec::Vec;

use super::SendBuf;
use crate::wire::{FrameLimits, PROTOCOL_HEADER, RawFrame};

/// What is in the buffer was within its limits when it was written.
const ANY_SIZE: FrameLimits = FrameLimits {
    body: u32::MAX,
    other: u32::MAX,
};

impl SendBuf {
    /// Shows every frame that waits to be written, with its channel; the protocol header counts as one on channel 0. The buffer
    /// begins and ends with a whole frame, as it does between filling it and writing the first octet of it; of anything else,
    /// what is no frame is left out.
    ///
    /// Frames that lie in one chunk are shown where they are; others, the bodies that were not copied, are joined for it, so
    /// this costs a copy of them.
    pub(crate) fn for_each_frame(&self, mut visit: impl FnMut(u16, &[u8])) {
        let mut joined: Vec<u8> = Vec::new();
        self.visit_chunks(|chunk| {
            if joined.is_empty() {
                joined.extend_from_slice(show_whole(chunk, &mut visit));
            } else {
                joined.extend_from_slice(chunk);
                let left = show_whole(&joined, &mut visit).len();
                joined.drain(..joined.len() - left);
            }
            true
        });
    }
}

/// Shows the whole frames that `octets` begin with, and gives what is left.
fn show_whole<'a>(mut octets: &'a [u8], visit: &mut impl FnMut(u16, &[u8])) -> &'a [u8] {
    while let Some((channel, size)) = first(octets)
        && let Some((frame, rest)) = octets.split_at_checked(size)
    {
        visit(channel, frame);
        octets = rest;
    }
    octets
}

/// The channel and size of the first frame, if it is whole.
fn first(octets: &[u8]) -> Option<(u16, usize)> {
    if octets.starts_with(&PROTOCOL_HEADER) {
        return Some((0, PROTOCOL_HEADER.len()));
    }
    let raw = RawFrame::parse(octets, &ANY_SIZE).ok()??;
    Some((raw.channel, raw.size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BasicPublish, ChannelFlow, HEARTBEAT, Properties};
    use alloc::vec;
    use bytes::{Buf, Bytes};

    fn publish(output: &mut SendBuf, channel: u16, body: Vec<u8>, frame_max: u32) {
        let (publish, properties) = (BasicPublish::default(), Properties::default());
        output
            .content(channel, &publish, &properties, body, frame_max)
            .unwrap();
    }

    fn frames(output: &SendBuf) -> Vec<(u16, Vec<u8>)> {
        let mut frames = Vec::new();
        output.for_each_frame(|channel, octets| frames.push((channel, octets.to_vec())));
        frames
    }

    /// Each a whole frame on its channel, and together what will be written.
    #[track_caller]
    fn check(mut output: SendBuf, channels: &[u16]) -> Vec<usize> {
        let frames = frames(&output);
        let mut all = Vec::new();
        for (channel, octets) in &frames {
            if *octets != PROTOCOL_HEADER {
                let raw = RawFrame::parse(octets, &ANY_SIZE).unwrap().unwrap();
                assert_eq!((raw.channel, raw.size()), (*channel, octets.len()));
            }
            all.extend_from_slice(octets);
        }
        assert!(all == output.copy_to_bytes(output.remaining()));
        let found: Vec<u16> = frames.iter().map(|(channel, _)| *channel).collect();
        assert_eq!(found, channels);
        frames.iter().map(|(_, octets)| octets.len()).collect()
    }

    #[test]
    fn nothing_has_no_frames() {
        assert_eq!(frames(&SendBuf::new()), []);
    }

    #[test]
    fn the_protocol_header_comes_first_and_counts_as_channel_0() {
        let mut output = SendBuf::new();
        output.protocol_header();
        output.heartbeat();
        output.method(7, &ChannelFlow { active: true }, 4096).unwrap();
        let flow = b"\x01\0\x07\0\0\0\x05\0\x14\0\x14\x01\xce".to_vec();
        assert_eq!(
            frames(&output),
            [(0, PROTOCOL_HEADER.to_vec()), (0, HEARTBEAT.to_vec()), (7, flow)]
        );
    }

    #[test]
    fn bodies_that_were_not_copied_are_joined_with_what_is_around_them() {
        let mut output = SendBuf::new();
        output.protocol_header();
        publish(&mut output, 1, vec![1; 10_000], 4096);
        publish(&mut output, 2, vec![2; 5], 4096);
        publish(&mut output, 3, vec![0xCE; 4096], 131_072);
        publish(&mut output, 4, vec![4; 300_000], 131_072);
        output.heartbeat();
        let channels = [0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 0];
        let sizes = check(output, &channels);
        assert_eq!(sizes[3..6], [4096, 4096, 10_000 - 2 * 4088 + 8]);
        assert_eq!(sizes[14..17], [131_072, 131_072, 300_000 - 2 * 131_064 + 8]);
    }

    #[test]
    fn many_small_frames_are_shown_where_they_are() {
        let mut output = SendBuf::new();
        (0..1000).for_each(|channel| publish(&mut output, channel, vec![7; 100], 4096));
        let flat = output.chunk().as_ptr_range();
        output.for_each_frame(|_, octets| assert!(flat.contains(&octets.as_ptr())));
        let channels: Vec<u16> = (0..1000).flat_map(|channel| [channel; 3]).collect();
        check(output, &channels);
    }

    #[test]
    fn a_buffer_that_was_read_to_the_end_of_a_frame_goes_on_with_the_next() {
        let mut output = SendBuf::new();
        output.heartbeat();
        publish(&mut output, 1, vec![1; 9000], 4096);
        output.advance(HEARTBEAT.len());
        let sizes = check(output, &[1; 5]);
        assert_eq!(sizes.len(), 5);
    }

    #[test]
    fn what_is_no_frame_is_left_out() {
        let mut output = SendBuf::new();
        publish(&mut output, 1, vec![1; 9000], 4096);
        output.advance(1);
        assert_eq!(frames(&output), []);
    }

    #[test]
    fn a_body_keeps_its_memory() {
        let body = Bytes::from(vec![1; 5000]);
        let mut output = SendBuf::new();
        let (publish, properties) = (BasicPublish::default(), Properties::default());
        output
            .content(1, &publish, &properties, body.clone(), 8192)
            .unwrap();
        let mut count = 0;
        output.for_each_frame(|_, _| count += 1);
        assert_eq!(count, 3);
        output.advance(output.chunk().len());
        assert_eq!(output.chunk().as_ptr(), body.as_ptr());
    }
}
