//! Topologies and what happens to them.

use super::model::{Manner, World};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_record_is_what_the_broker_has_and_plans_bring_it_back(
        operations in proptest::collection::vec(any::<[u8; 6]>(), 0..60),
    ) {
        let mut world = World::new();
        for operation in operations {
            world.apply(operation);
        }
        for faults in 0..8 {
            world.clone().recover_with_faults(Manner { faults: 1 << faults, ..Manner::PLAIN });
        }
    }
}
