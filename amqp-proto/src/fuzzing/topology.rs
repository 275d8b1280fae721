//! Operations on a record of a topology, against a broker of lists.

use arbitrary::Unstructured;

use super::check::operations;
use crate::topology::model::World;

/// What a program declares, takes back and loses, six octets for each thing that happens.
///
/// After each of them the record is what a naive broker has; a plan has everything once, what it needs first; carried out on a
/// new broker, step by step or all that is ready at once, it restores the same, or all that is not refused; half a plan does no
/// harm; the same answers give the same plan.
pub fn topology(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut world = World::new();
    for octets in operations::<[u8; 6]>(&mut u) {
        world.apply(octets);
    }
}
