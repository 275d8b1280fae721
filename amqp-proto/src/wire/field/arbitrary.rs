//! Tables out of a fuzzer's octets.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::parse::validate_value;
use super::{Entries, FieldTableRef};
use crate::wire::arbitrary::octets;

impl<'a> Arbitrary<'a> for FieldTableRef<'a> {
    /// A table that can be read: of the octets, the entries before the first that cannot.
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let octets = octets(u)?;
        let mut entries = Entries::new(octets);
        let mut end = 0;
        while let Some(Ok((_, value))) = entries.next()
            && validate_value(value, 1).is_ok()
        {
            end = entries.position();
        }
        Ok(Self::from_encoded(octets.get(..end).unwrap_or_default()))
    }
}
