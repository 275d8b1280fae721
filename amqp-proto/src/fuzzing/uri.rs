//! Any octets, as an AMQP URI.

use super::check::one_line;
use crate::{AmqpUri, ConnectionParameters, UriError};

/// What is UTF-8 of it, as a URI: an error points into it, at a character, and shows nothing but the place; what was parsed
/// prints in a form that means the same, and its parameters can be checked.
pub fn uri(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let uri = match text.parse::<AmqpUri>() {
        Ok(uri) => uri,
        Err(error) => return points_into(&error, &text),
    };
    let printed = uri.to_string();
    one_line(&uri);
    let again: AmqpUri = printed
        .parse()
        .unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), printed);
    // Passwords are printed as three stars, which parse as a password.
    assert_eq!(again.password.is_some(), uri.password.is_some());
    assert_eq!(
        (again.tls, &again.user, &again.hosts),
        (uri.tls, &uri.user, &uri.hosts)
    );
    assert_eq!(again.virtual_host, uri.virtual_host);

    let parameters = ConnectionParameters::from(uri);
    assert_eq!(parameters.validate(), Ok(()), "{printed}");
    assert_eq!(parameters.addresses().count(), parameters.hosts.len());
}

fn points_into(error: &UriError, text: &str) {
    assert!(text.is_char_boundary(error.offset), "{error:?}");
    one_line(error);
}
