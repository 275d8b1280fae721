//! What one row of the method table becomes: a struct, its codec, its `MethodSpec`, its variant of `Method`.

/// Takes the whole table.
macro_rules! methods {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $(<$life:lifetime>)? = $class:literal, $method:literal, $label:literal, $sender:ident
        $(, replies [$($reply:ident),+])? $(, carries $content:ident)? {
            $($(#[doc = $field_doc:literal])* $field:ident: $domain:ident $(= $default:expr)?,)*
        }
    )+) => {
        $(
            method_struct! {
                [$(#[doc = $doc])+] $name [$($life)?] []
                $([$(#[doc = $field_doc])*] $field $domain,)*
            }

            impl $(<$life>)? $name $(<$life>)? {
                /// Reads the arguments, which stand `offset` octets after the beginning of the frame.
                #[inline(always)]
                pub(crate) fn decode(payload: method_payload!($($life)?), offset: usize) -> Result<Self, ProtocolError> {
                    #[allow(unused_mut, reason = "a method without arguments reads none")]
                    let mut decoder = Decoder::new(payload, offset);
                    $(method_read!(decoder, $label, $field, $domain);)*
                    decoder.finish($label)?;
                    Ok(method_build!($name [] $($field)*))
                }
            }

            impl $(<$life>)? Default for $name $(<$life>)? {
                #[inline]
                fn default() -> Self {
                    method_default!($name [] $($field [$($default)?],)*)
                }
            }

            impl $(<$life>)? Arguments for $name $(<$life>)? {
                const SPEC: &'static MethodSpec = &MethodSpec {
                    id: MethodId { class: $class, method: $method },
                    name: $label,
                    sender: Sender::$sender,
                    replies: &[$($(<$reply as Arguments>::SPEC.id),+)?],
                    has_content: method_content!($($content)?),
                    arguments: &[$(ArgumentSpec {
                        name: stringify!($field),
                        domain: Domain::$domain,
                    }),*],
                };

                fn for_each_argument(&self, visit: &mut dyn FnMut(&'static str, Argument<'_>)) {
                    $(method_visit!(visit, self, $field);)*
                    let _ = visit;
                }
            }

            $(method_carries!($content $name);)?

            impl $(<$life>)? sealed::Sealed for $name $(<$life>)? {
                #[inline]
                fn long_parts(&self) -> usize {
                    let sizes: &[usize] = &[$(method_long_part!(self, $field, $domain)),*];
                    sizes.iter().fold(0, |sum, size| sum.saturating_add(*size))
                }

                #[inline]
                fn write_arguments(&self, room: &mut Room<'_>) {
                    #[allow(unused_mut, reason = "a method without arguments writes none")]
                    let mut encoder = Encoder::new(room);
                    $(method_write!(encoder, self, $field, $domain);)*
                    encoder.end_bits();
                }
            }

            impl<'a> From<method_type!($name $($life)?)> for Method<'a> {
                fn from(method: method_type!($name $($life)?)) -> Self {
                    Self::$name(method)
                }
            }
        )+

        /// Any method of RabbitMQ's AMQP 0-9-1.
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
        pub enum Method<'a> {
            $($(#[doc = $doc])+ $name(method_type!($name $($life)?)),)+
        }

        impl<'a> Method<'a> {
            #[inline]
            pub(super) fn read(id: MethodId, arguments: &'a [u8], offset: usize) -> Result<Self, ProtocolError> {
                match (id.class, id.method) {
                    $(($class, $method) => $name::decode(arguments, offset).map(Self::$name),)+
                    _ => Err(unknown_method(id)),
                }
            }

            pub(super) fn as_arguments(&self) -> &dyn DynArguments {
                match self {
                    $(Self::$name(method) => method,)+
                }
            }
        }

        /// Every method, as the specification and RabbitMQ's extensions define it.
        pub const METHODS: &[&MethodSpec] = &[$(<$name as Arguments>::SPEC),+];
    };
}

/// The struct: one public field for each named argument; `reserved` has none.
macro_rules! method_struct {
    ([$(#[doc = $doc:literal])+] $name:ident [$($life:lifetime)?] [$($fields:tt)*]) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
        pub struct $name $(<$life>)? { $($fields)* }
    };
    ($docs:tt $name:ident $life:tt $fields:tt [] reserved $domain:ident, $($rest:tt)*) => {
        method_struct! { $docs $name $life $fields $($rest)* }
    };
    ($docs:tt $name:ident $life:tt [$($fields:tt)*]
        [$(#[doc = $doc:literal])+] $field:ident $domain:ident, $($rest:tt)*) => {
        method_struct! {
            $docs $name $life [$($fields)* $(#[doc = $doc])+ pub $field: method_domain!($domain),] $($rest)*
        }
    };
}

/// The Rust type of a domain.
macro_rules! method_domain {
    (bit) => { bool };
    (octet) => { u8 };
    (short) => { u16 };
    (long) => { u32 };
    (longlong) => { u64 };
    (reply_code) => { ReplyCode };
    (shortstr) => { ShortStr<'a> };
    (longstr) => { LongStr<'a> };
    (secret) => { SecretStr<'a> };
    (table) => { FieldTableRef<'a> };
}

macro_rules! method_type {
    ($name:ident) => { $name };
    ($name:ident $life:lifetime) => { $name<'a> };
}

macro_rules! method_payload {
    () => {
        &[u8]
    };
    ($life:lifetime) => {
        &$life[u8]
    };
}

macro_rules! method_carries {
    (content $name:ident) => {
        impl CarriesContent for $name<'_> {}
    };
}

macro_rules! method_content {
    () => {
        false
    };
    (content) => {
        true
    };
}

macro_rules! method_read {
    ($decoder:ident, $label:literal, reserved, $domain:ident) => {
        if let Err(failure) = $decoder.$domain() {
            return Err($decoder.located(failure, concat!($label, " reserved")));
        }
    };
    ($decoder:ident, $label:literal, $field:ident, $domain:ident) => {
        let $field = match $decoder.$domain() {
            Ok(value) => value,
            Err(failure) => {
                return Err($decoder.located(failure, concat!($label, " ", stringify!($field))));
            }
        };
    };
}

macro_rules! method_build {
    ($name:ident [$($done:ident)*]) => { $name { $($done),* } };
    ($name:ident [$($done:ident)*] reserved $($rest:tt)*) => { method_build!($name [$($done)*] $($rest)*) };
    ($name:ident [$($done:ident)*] $field:ident $($rest:tt)*) => {
        method_build!($name [$($done)* $field] $($rest)*)
    };
}

macro_rules! method_default {
    ($name:ident [$($done:tt)*]) => { $name { $($done)* } };
    ($name:ident [$($done:tt)*] reserved [], $($rest:tt)*) => { method_default!($name [$($done)*] $($rest)*) };
    ($name:ident [$($done:tt)*] $field:ident [], $($rest:tt)*) => {
        method_default!($name [$($done)* $field: Default::default(),] $($rest)*)
    };
    ($name:ident [$($done:tt)*] $field:ident [$default:expr], $($rest:tt)*) => {
        method_default!($name [$($done)* $field: $default,] $($rest)*)
    };
}

macro_rules! method_write {
    ($encoder:ident, $self:ident, reserved, $domain:ident) => {
        $encoder.$domain(Default::default())
    };
    ($encoder:ident, $self:ident, $field:ident, $domain:ident) => {
        $encoder.$domain($self.$field)
    };
}

/// How many octets an argument has, if it may be long.
macro_rules! method_long_part {
    ($self:ident, reserved, $domain:ident) => {
        0
    };
    ($self:ident, $field:ident, longstr) => {
        $self.$field.len()
    };
    ($self:ident, $field:ident, secret) => {
        $self.$field.len()
    };
    ($self:ident, $field:ident, table) => {
        $self.$field.as_encoded().len()
    };
    ($self:ident, $field:ident, $domain:ident) => {
        0
    };
}

macro_rules! method_visit {
    ($visit:ident, $self:ident, reserved) => {};
    ($visit:ident, $self:ident, $field:ident) => {
        $visit(stringify!($field), Argument::from($self.$field))
    };
}
