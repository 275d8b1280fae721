//! Names that the broker makes: of queues, consumers and direct replies.

use crate::random::Random;

/// As many characters as RabbitMQ's names have behind their prefix.
const LENGTH: usize = 22;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The name with that prefix and number: the same in every run, and like no other.
pub(crate) fn generated(prefix: &str, number: u64) -> String {
    let mut name = String::from(prefix);
    let mut random = Random::new(number);
    for _ in 0..LENGTH {
        let place = usize::try_from(random.up_to(63)).unwrap_or_default();
        name.extend(ALPHABET.get(place).map(|octet| char::from(*octet)));
    }
    name
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
