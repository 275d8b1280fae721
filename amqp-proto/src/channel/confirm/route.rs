//! Where a publish goes, in 32 bits.

use core::num::NonZeroU32;

/// A hash of an exchange and a routing key.
///
/// Two routes share one with a chance of 1 in 2³². The window's key is in it, so that those that do are not the same for all
/// channels. It is no secret and this is no cryptographic hash: whoever chooses the routing keys of one publisher can prepare two
/// that share one, and then the return of one message counts for another. Numbered publishes are told apart all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteHash(NonZeroU32);

/// Numbers with about as many ones as zeros. The first makes a key of 0 as good as another; that the end of a name is multiplied
/// by a number of its own keeps `("a", "bc")` and `("ab", "c")` apart.
const START: u64 = 0x243F_6A88_85A3_08D3;
const INSIDE: u64 = 0x9E37_79B9_7F4A_7C15;
const END: u64 = 0xD6E8_FEB8_6659_FD93;

impl RouteHash {
    pub(super) fn new(key: u64, exchange: &[u8], routing_key: &[u8]) -> Self {
        let hash = add(add(key ^ START, exchange), routing_key);
        let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
        let folded = u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h]);
        // Never 0, so that an `Option` of it is no larger.
        Self(NonZeroU32::new(folded).unwrap_or(NonZeroU32::MIN))
    }
}

/// Eight octets at a time, then the last eight once more, for the rest; a shorter name as one number. The length tells octets
/// that are missing from octets that are 0.
fn add(mut hash: u64, octets: &[u8]) -> u64 {
    let (words, _) = octets.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), INSIDE);
    }
    let end = match octets.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => octets.iter().fold(0, |end, octet| end << 8 | u64::from(*octet)),
    };
    fold(hash ^ end, END ^ octets.len() as u64)
}

/// The two halves of the product, one over the other: each bit of the result depends on most of both.
fn fold(a: u64, b: u64) -> u64 {
    let product = (u128::from(a) * u128::from(b)).to_le_bytes();
    let (halves, _) = product.as_chunks::<8>();
    halves
        .iter()
        .fold(0, |folded, half| folded ^ u64::from_le_bytes(*half))
}
