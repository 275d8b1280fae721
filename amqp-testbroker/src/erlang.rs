//! How Erlang shows octets, which RabbitMQ quotes in its errors.

use std::fmt::Write;

use crate::config::Release;

/// As it writes them: `<<1,2>>`.
pub(crate) fn written(octets: &[u8]) -> String {
    let mut text = "<<".to_owned();
    for (place, octet) in octets.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{octet}");
    }
    text + ">>"
}

/// As it prints them: `<<"text">>` if all of them are printable, else as it writes them.
///
/// RabbitMQ 3 takes them for Latin-1 and sends them as they are, which makes a text only if they are UTF-8 (what is not, is written
/// here). RabbitMQ 4 takes them for UTF-8 first, and marks what is more than ASCII.
pub(crate) fn printed(octets: &[u8], release: Release) -> String {
    let latin_1 = quoted(octets.iter().copied().map(char::from));
    let utf_8 = std::str::from_utf8(octets)
        .ok()
        .and_then(|text| quoted(text.chars()));
    match (release, latin_1, utf_8) {
        _ if octets.is_empty() => written(octets),
        (Release::V4, _, Some(text)) if !octets.is_ascii() => format!("<<{text}/utf8>>"),
        (Release::V4, Some(text), _) | (Release::V3_10, Some(_), Some(text)) => format!("<<{text}>>"),
        _ => written(octets),
    }
}

/// `None` if one of them is not printable.
fn quoted(letters: impl Iterator<Item = char>) -> Option<String> {
    let text = letters.map(escaped).collect::<Option<String>>()?;
    Some(format!("\"{text}\""))
}

fn escaped(letter: char) -> Option<String> {
    let escape = match letter {
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => letter,
        ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'.. => return Some(letter.to_string()),
        _ => return None,
    };
    Some(format!("\\{escape}"))
}
