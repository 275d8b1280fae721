//! Bytes that must not be printed and must not stay in memory.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use zeroize::{Zeroize, Zeroizing};

/// A password, token or SASL response: its `Debug` prints `***`, it has no `Display` and no equality,
/// and its bytes are overwritten with zeros when it is dropped.
///
/// Any bytes are allowed, of any length; nothing here has to be UTF-8.
///
/// A secret can only clear the buffer it owns. Giving it a `String` or a `Vec<u8>` moves that buffer in,
/// without a copy; giving it a `&str` or a `&[u8]` copies, and the original stays the caller's to clear.
/// Every clone is a buffer of its own.
///
/// ```
/// use amqp_proto::Secret;
/// let token = Secret::from("s3cret");
/// assert_eq!(token.expose(), b"s3cret");
/// assert_eq!(format!("{token:?}"), "Secret(***)");
/// ```
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A secret of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves. What the caller copies out of here is the caller's to clear.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Overwrites the whole buffer with zeros and leaves an empty secret behind.
    pub fn erase(&mut self) {
        self.0.zeroize();
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

/// A secret that can be erased through a shared reference, by any of its owners.
///
/// The bytes are atomics: that takes neither a lock nor `unsafe`. Erasing sets the flag before it touches the
/// first byte and reading checks the flag after it copied the last one, so a reader in another thread gets
/// the whole secret or nothing.
pub(crate) struct SharedSecret {
    erased: AtomicBool,
    /// Never shared but by the tests, which look at it after the drop.
    bytes: Arc<[AtomicU8]>,
}

impl SharedSecret {
    /// Copies the secret; the original clears itself when it is dropped.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self {
            erased: AtomicBool::new(false),
            bytes: secret.expose().iter().copied().map(AtomicU8::new).collect(),
        }
    }

    /// Appends the bytes to `out`; `None` once erased (then `out` may hold a part of them).
    ///
    /// `out` should have room for [`len`](Self::len) more bytes: growing leaves a copy behind.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend(self.bytes.iter().map(|byte| byte.load(Ordering::SeqCst)));
        (!self.is_erased()).then_some(())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn contains_nul(&self) -> bool {
        self.bytes.iter().any(|byte| byte.load(Ordering::SeqCst) == 0)
    }

    pub(crate) fn is_erased(&self) -> bool {
        self.erased.load(Ordering::SeqCst)
    }

    pub(crate) fn erase(&self) {
        self.erased.store(true, Ordering::SeqCst);
        for byte in self.bytes.iter() {
            byte.store(0, Ordering::SeqCst);
        }
        // The stores must not be dropped as dead, even just before the buffer is freed.
        black_box(&self.bytes);
    }
}

impl Drop for SharedSecret {
    fn drop(&mut self) {
        self.erase();
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_erased() {
            "Secret(erased)"
        } else {
            "Secret(***)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn debug_tells_nothing() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(format!("{:?}", SharedSecret::new(&secret)), "Secret(***)");
    }

    #[test]
    fn every_source_gives_the_same_bytes() {
        for secret in [
            Secret::from("pä"),
            Secret::from(String::from("pä")),
            Secret::from("pä".as_bytes()),
            Secret::from("pä".as_bytes().to_vec()),
        ] {
            assert_eq!(secret.expose(), b"p\xc3\xa4");
            assert_eq!(secret.len(), 3);
            assert!(!secret.is_empty());
        }
        assert!(Secret::default().is_empty());
    }

    #[test]
    fn erase_leaves_nothing_and_clones_are_separate() {
        let mut secret = Secret::new("hunter2");
        let copy = secret.clone();
        secret.erase();
        assert_eq!(secret.expose(), b"");
        assert_eq!(copy.expose(), b"hunter2");
    }

    #[test]
    fn shared_erase_zeroes_every_byte() {
        let shared = SharedSecret::new(&Secret::new("hunter2"));
        let mut out = Vec::new();
        assert_eq!(shared.append_to(&mut out), Some(()));
        assert_eq!(out, b"hunter2");
        assert!(!shared.contains_nul());

        shared.erase();
        assert!(shared.is_erased());
        assert_eq!(
            shared.bytes.iter().map(|b| b.load(Ordering::SeqCst)).max(),
            Some(0)
        );
        assert_eq!(shared.append_to(&mut Vec::new()), None);
        assert_eq!(format!("{shared:?}"), "Secret(erased)");
        assert_eq!(shared.len(), 7);
    }

    #[test]
    fn dropping_erases() {
        let shared = SharedSecret::new(&Secret::new("hunter2"));
        let bytes = Arc::clone(&shared.bytes);
        drop(shared);
        assert!(bytes.iter().all(|byte| byte.load(Ordering::SeqCst) == 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is tested is another thread")]
    fn a_reader_beside_an_eraser_gets_all_or_nothing() {
        extern crate std;
        for _ in 0..200 {
            let shared = Arc::new(SharedSecret::new(&Secret::new("x".repeat(512))));
            let eraser = {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.erase())
            };
            let mut out = Vec::with_capacity(512);
            if shared.append_to(&mut out).is_some() {
                assert_eq!(out, [b'x'; 512]);
            }
            assert!(eraser.join().is_ok());
        }
    }
}
