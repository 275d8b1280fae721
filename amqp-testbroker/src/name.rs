//! Names that the broker makes: of queues, consumers and direct replies.

/// As many characters as RabbitMQ's names have behind their prefix.
const LENGTH: usize = 22;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The name with that prefix and number: the same in every run, and like no other.
pub(crate) fn generated(prefix: &str, number: u64) -> String {
    let mut name = String::from(prefix);
    let (high, low) = (mixed(number), mixed(!number));
    let mut bits = (u128::from(high) << 64) | u128::from(low);
    for _ in 0..LENGTH {
        let place = usize::try_from(bits & 63).unwrap_or_default();
        name.extend(ALPHABET.get(place).map(|octet| char::from(*octet)));
        bits >>= 6;
    }
    name
}

/// Spreads near numbers far apart, each to another one (the finaliser of splitmix64).
const fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_have_the_form_of_rabbitmqs_and_do_not_repeat() {
        let names: BTreeSet<String> = (0..1000).map(|number| generated("amq.gen-", number)).collect();
        assert_eq!(names.len(), 1000);
        for name in &names {
            let rest = name.strip_prefix("amq.gen-").unwrap();
            assert_eq!(rest.len(), 22);
            assert!(rest.bytes().all(|octet| ALPHABET.contains(&octet)), "{name}");
        }
        assert_eq!(generated("a", 7), generated("a", 7));
    }
}
