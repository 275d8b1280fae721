//! Headers exchanges: what a binding's arguments ask of a message's headers.

use amqp_proto::wire::{FieldTableRef, FieldValue};

use super::value::{Bare, same, type_name};
use crate::config::Release;
use crate::refusal::Refusal;

/// How many of the arguments must match, and whether those count whose names begin with `x-`.
#[derive(Debug, Clone, Copy)]
struct XMatch {
    is_any: bool,
    with_x: bool,
}

const ALL: XMatch = XMatch {
    is_any: false,
    with_x: false,
};

/// `x-match`, if it is one that there is.
fn x_match(value: FieldValue<'_>) -> Option<XMatch> {
    let FieldValue::LongStr(text) = value else {
        return None;
    };
    let (is_any, with_x) = match text {
        b"all" => (false, false),
        b"any" => (true, false),
        b"all-with-x" => (false, true),
        b"any-with-x" => (true, true),
        _ => return None,
    };
    Some(XMatch { is_any, with_x })
}

/// Refuses an `x-match` that there is not. Without one, all must match.
pub(super) fn check(arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
    let Ok(Some(value)) = arguments.get("x-match") else {
        return Ok(());
    };
    if x_match(value).is_some() {
        return Ok(());
    }
    Err(match value {
        FieldValue::LongStr(_) => Refusal::precondition_failed(format_args!(
            "Invalid x-match field value <<\"{}\">>; expected all, any, all-with-x, or any-with-x",
            Bare(value)
        )),
        _ => Refusal::precondition_failed(format_args!(
            "Invalid x-match field type {} (value {}); expected longstr",
            type_name(&value),
            Bare(value)
        )),
    })
}

/// Whether a message with these headers goes where the binding leads.
pub(super) fn matches(arguments: FieldTableRef<'_>, headers: FieldTableRef<'_>, release: Release) -> bool {
    let how = match arguments.get("x-match") {
        Ok(Some(value)) => x_match(value).unwrap_or(ALL),
        _ => ALL,
    };
    let mut counted = arguments
        .iter()
        .flatten()
        .filter(|(key, _)| *key != "x-match" && (how.with_x || !key.as_bytes().starts_with(b"x-")));
    let has = |(key, wanted): (amqp_proto::wire::ShortStr<'_>, FieldValue<'_>)| {
        headers
            .iter()
            .flatten()
            .find(|(name, _)| *name == key)
            .is_some_and(|(_, value)| is_wanted(wanted, value, release))
    };
    if how.is_any {
        counted.any(has)
    } else {
        counted.all(has)
    }
}

/// No value is any value. 3.10 takes 1.0 for 1.
fn is_wanted(wanted: FieldValue<'_>, value: FieldValue<'_>, release: Release) -> bool {
    if wanted == FieldValue::Void || same(wanted, value) {
        return true;
    }
    release == Release::V3_10
        && match (number(wanted), number(value)) {
            (Some(wanted), Some(value)) => wanted == value,
            _ => false,
        }
}

fn number(value: FieldValue<'_>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "compared as RabbitMQ does")]
    value
        .as_f64()
        .or_else(|| value.as_i64().map(|value| value as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_proto::wire::FieldTable;

    fn table(entries: &[(&str, FieldValue<'_>)]) -> FieldTable {
        let mut table = FieldTable::new();
        for (key, value) in entries {
            table.insert(key, *value).unwrap();
        }
        table
    }

    fn text(text: &str) -> FieldValue<'_> {
        FieldValue::from(text)
    }

    #[test]
    fn each_x_match_counts_what_it_says() {
        let headers = table(&[("a", 1.into()), ("b", text("two")), ("x-c", true.into())]);
        type Wanted<'a> = &'a [(&'a str, FieldValue<'a>)];
        let (a, b, c) = (("a", 1_i64.into()), ("b", text("two")), ("x-c", true.into()));
        let (not_a, not_c) = (("a", 2.into()), ("x-c", false.into()));
        let cases: [(&str, Wanted<'_>, bool); 16] = [
            ("all", &[a, b], true),
            ("all", &[a, ("z", 1.into())], false),
            ("all", &[not_a, b], false),
            ("all", &[], true),
            ("all", &[a, not_c], true),
            ("all-with-x", &[a, not_c], false),
            ("all-with-x", &[a, c], true),
            ("any", &[not_a, b], true),
            ("any", &[not_a], false),
            ("any", &[], false),
            ("any", &[c], false),
            ("any", &[not_c, a], true),
            ("any-with-x", &[c], true),
            ("any-with-x", &[not_c], false),
            ("any-with-x", &[], false),
            ("all", &[("b", FieldValue::Void)], true),
        ];
        for (how, wanted, expected) in cases {
            let mut arguments = table(wanted);
            arguments.insert("x-match", how).unwrap();
            for release in [Release::V3_10, Release::V4] {
                assert_eq!(
                    matches(arguments.as_ref(), headers.as_ref(), release),
                    expected,
                    "{how} {wanted:?}"
                );
            }
        }
    }

    #[test]
    fn without_x_match_all_must_match_and_nothing_matches_everything() {
        let headers = table(&[("a", 1.into())]);
        let matches = |wanted: &FieldTable| matches(wanted.as_ref(), headers.as_ref(), Release::V4);
        assert!(matches(&FieldTable::new()));
        assert!(matches(&table(&[("a", 1.into())])));
        assert!(!matches(&table(&[("a", 1.into()), ("b", 1.into())])));
        assert!(!matches(&table(&[("b", FieldValue::Void)])));
    }

    #[test]
    fn only_3_10_takes_one_point_zero_for_one() {
        let (wanted, headers) = (table(&[("a", 1.0_f64.into())]), table(&[("a", 1.into())]));
        assert!(matches(wanted.as_ref(), headers.as_ref(), Release::V3_10));
        assert!(!matches(wanted.as_ref(), headers.as_ref(), Release::V4));
    }

    #[test]
    fn another_x_match_is_refused() {
        assert!(check(table(&[]).as_ref()).is_ok());
        for good in ["all", "any", "all-with-x", "any-with-x"] {
            assert!(check(table(&[("x-match", text(good))]).as_ref()).is_ok());
        }
        let refused = |value| check(table(&[("x-match", value)]).as_ref()).unwrap_err().text;
        assert_eq!(
            refused(text("zz")),
            "PRECONDITION_FAILED - Invalid x-match field value <<\"zz\">>; \
             expected all, any, all-with-x, or any-with-x"
        );
        assert_eq!(
            refused(1.into()),
            "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr"
        );
    }
}
