//! Random values, written and read by our codec and by `amq-protocol`'s: the same octets, the same values. And what has to
//! hold of our codec whatever the octets: any chunking gives the same frames, what was read is written back, nothing panics.
//!
//! `PROPTEST_CASES` says how many.

use std::collections::BTreeMap;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::types as theirs;
use amq_protocol::types::{AMQPValue, LongString, ShortString};
use amqp_proto::RecvBuf;
use amqp_proto::wire::{
    Argument, ArgumentSpec, ContentHeader, Decimal, Domain, FieldArray, FieldArrayRef, FieldTable,
    FieldTableRef, FieldValue, Frame, FrameLimits, HEADER_SIZE, METHODS, MethodSpec, Properties, RawFrame,
    ShortStr,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// Larger than any frame made here.
const LIMIT: u32 = 1 << 20;
const LIMITS: FrameLimits = FrameLimits {
    body: LIMIT,
    other: LIMIT,
};

// ---- the values, as the other codec has them ----

/// UTF-8, which the other codec demands, of at most 255 octets; of these the longest and the shortest too.
fn short_text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "\\PC{0,20}",
        1 => Just("x".repeat(255)),
        1 => Just("é".repeat(127)),
        1 => Just(String::new()),
        1 => "[\\x00-\\x1f]{1,4}",
    ]
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 250..600)]
}

/// Finite ones: others are not to be sent.
fn value() -> impl Strategy<Value = AMQPValue> {
    use proptest::num::{f32, f64};
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        (f32::NORMAL | f32::SUBNORMAL | f32::ZERO | f32::NEGATIVE).prop_map(AMQPValue::Float),
        (f64::NORMAL | f64::SUBNORMAL | f64::ZERO | f64::NEGATIVE).prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(theirs::DecimalValue { scale, value })),
        octets().prop_map(|octets| AMQPValue::LongString(octets.into())),
        octets().prop_map(|octets| AMQPValue::ByteArray(octets.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| AMQPValue::FieldArray(items.into())),
            btree_map(short_text().prop_map(ShortString::from), inner, 0..5)
                .prop_map(|entries| AMQPValue::FieldTable(entries.into())),
        ]
    })
}

/// Keys are sorted and there once: the other codec keeps them so.
fn table() -> impl Strategy<Value = theirs::FieldTable> {
    btree_map(short_text().prop_map(ShortString::from), value(), 0..6).prop_map(theirs::FieldTable::from)
}

fn our_table(table: &theirs::FieldTable) -> FieldTable {
    let mut built = FieldTable::new();
    for (key, value) in table {
        with_our_value(value, &mut |value| built.insert(key.as_str(), value).unwrap());
    }
    built
}

fn with_our_value(value: &AMQPValue, put: &mut dyn FnMut(FieldValue<'_>)) {
    match value {
        AMQPValue::Boolean(value) => put((*value).into()),
        AMQPValue::ShortShortInt(value) => put((*value).into()),
        AMQPValue::ShortShortUInt(value) => put((*value).into()),
        AMQPValue::ShortInt(value) => put((*value).into()),
        AMQPValue::ShortUInt(value) => put((*value).into()),
        AMQPValue::LongInt(value) => put((*value).into()),
        AMQPValue::LongUInt(value) => put((*value).into()),
        AMQPValue::LongLongInt(value) => put((*value).into()),
        AMQPValue::Float(value) => put((*value).into()),
        AMQPValue::Double(value) => put((*value).into()),
        AMQPValue::DecimalValue(value) => put(FieldValue::Decimal(Decimal {
            scale: value.scale,
            raw: value.value,
        })),
        AMQPValue::LongString(value) => put(FieldValue::LongStr(value.as_bytes())),
        AMQPValue::ByteArray(value) => put(FieldValue::ByteArray(value.as_slice())),
        AMQPValue::Timestamp(value) => put(FieldValue::Timestamp(*value)),
        AMQPValue::Void => put(FieldValue::Void),
        AMQPValue::FieldArray(items) => {
            let mut array = FieldArray::new();
            for item in items.as_slice() {
                with_our_value(item, &mut |value| array.push(value).unwrap());
            }
            put((&array).into());
        }
        AMQPValue::FieldTable(table) => put((&our_table(table)).into()),
        AMQPValue::ShortString(_) => unreachable!("it has no tag"),
    }
}

fn their_table(table: FieldTableRef<'_>) -> theirs::FieldTable {
    let entries: BTreeMap<_, _> = table
        .iter()
        .map(|entry| {
            let (key, value) = entry.unwrap();
            (ShortString::from(key.to_str().unwrap()), their_value(value))
        })
        .collect();
    entries.into()
}

fn their_array(array: FieldArrayRef<'_>) -> theirs::FieldArray {
    let items: Vec<_> = array.iter().map(|item| their_value(item.unwrap())).collect();
    items.into()
}

fn their_value(value: FieldValue<'_>) -> AMQPValue {
    match value {
        FieldValue::Bool(value) => AMQPValue::Boolean(value),
        FieldValue::I8(value) => AMQPValue::ShortShortInt(value),
        FieldValue::U8(value) => AMQPValue::ShortShortUInt(value),
        FieldValue::I16(value) => AMQPValue::ShortInt(value),
        FieldValue::U16(value) => AMQPValue::ShortUInt(value),
        FieldValue::I32(value) => AMQPValue::LongInt(value),
        FieldValue::U32(value) => AMQPValue::LongUInt(value),
        FieldValue::I64(value) => AMQPValue::LongLongInt(value),
        FieldValue::F32(value) => AMQPValue::Float(value),
        FieldValue::F64(value) => AMQPValue::Double(value),
        FieldValue::Decimal(Decimal { scale, raw }) => {
            AMQPValue::DecimalValue(theirs::DecimalValue { scale, value: raw })
        }
        FieldValue::LongStr(octets) => AMQPValue::LongString(octets.into()),
        FieldValue::ByteArray(octets) => AMQPValue::ByteArray(octets.into()),
        FieldValue::Timestamp(value) => AMQPValue::Timestamp(value),
        FieldValue::Array(array) => AMQPValue::FieldArray(their_array(array)),
        FieldValue::Table(table) => AMQPValue::FieldTable(their_table(table)),
        FieldValue::Void => AMQPValue::Void,
        other => panic!("the test does not know {other:?}"),
    }
}

// ---- methods, from their rows ----

/// A random argument, by domain; reserved ones are empty.
#[derive(Debug, Clone)]
enum Value {
    Bit(bool),
    Octet(u8),
    Short(u16),
    Long(u32),
    LongLong(u64),
    ShortStr(String),
    LongStr(Vec<u8>),
    Table(theirs::FieldTable),
}

fn argument(argument: &ArgumentSpec) -> BoxedStrategy<Value> {
    let is_reserved = argument.name == "reserved";
    match argument.domain {
        Domain::bit if is_reserved => Just(Value::Bit(false)).boxed(),
        Domain::bit => any::<bool>().prop_map(Value::Bit).boxed(),
        Domain::octet => any::<u8>().prop_map(Value::Octet).boxed(),
        Domain::short if is_reserved => Just(Value::Short(0)).boxed(),
        Domain::short | Domain::reply_code => any::<u16>().prop_map(Value::Short).boxed(),
        Domain::long => any::<u32>().prop_map(Value::Long).boxed(),
        Domain::longlong => any::<u64>().prop_map(Value::LongLong).boxed(),
        Domain::shortstr if is_reserved => Just(Value::ShortStr(String::new())).boxed(),
        Domain::shortstr => short_text().prop_map(Value::ShortStr).boxed(),
        Domain::longstr if is_reserved => Just(Value::LongStr(Vec::new())).boxed(),
        Domain::longstr | Domain::secret => octets().prop_map(Value::LongStr).boxed(),
        Domain::table => table().prop_map(Value::Table).boxed(),
    }
}

/// The frame, written by hand: neither codec's own doing.
fn method_frame(spec: &MethodSpec, channel: u16, values: &[Value]) -> Vec<u8> {
    let mut payload = [spec.id.class.to_be_bytes(), spec.id.method.to_be_bytes()].concat();
    let mut bits = 0;
    for value in values {
        bits = match value {
            Value::Bit(value) => {
                if bits % 8 == 0 {
                    payload.push(0);
                }
                *payload.last_mut().unwrap() |= u8::from(*value) << (bits % 8);
                bits + 1
            }
            _ => 0,
        };
        match value {
            Value::Bit(_) => {}
            Value::Octet(value) => payload.push(*value),
            Value::Short(value) => payload.extend(value.to_be_bytes()),
            Value::Long(value) => payload.extend(value.to_be_bytes()),
            Value::LongLong(value) => payload.extend(value.to_be_bytes()),
            Value::ShortStr(text) => {
                payload.push(u8::try_from(text.len()).unwrap());
                payload.extend(text.as_bytes());
            }
            Value::LongStr(octets) => {
                payload.extend(u32::try_from(octets.len()).unwrap().to_be_bytes());
                payload.extend(octets);
            }
            Value::Table(table) => {
                let ours = our_table(table);
                let octets = ours.as_ref().as_encoded();
                payload.extend(u32::try_from(octets.len()).unwrap().to_be_bytes());
                payload.extend(octets);
            }
        }
    }
    frame(1, channel, &payload)
}

fn frame(frame_type: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![frame_type];
    octets.extend(channel.to_be_bytes());
    octets.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend(payload);
    octets.push(0xCE);
    octets
}

fn our_frame(octets: &[u8]) -> Frame<'_> {
    let raw = RawFrame::parse(octets, &LIMITS).unwrap().unwrap();
    assert_eq!(raw.size(), octets.len());
    raw.decode().unwrap()
}

fn our_octets(frame: &Frame<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    frame.encode(&mut octets, LIMIT).unwrap();
    octets
}

fn their_frame(octets: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(octets).unwrap();
    assert!(rest.is_empty());
    frame
}

fn their_octets(frame: &AMQPFrame) -> Vec<u8> {
    let written = gen_frame(frame)(WriteContext::from(Vec::new())).unwrap();
    written.into_inner().0
}

/// How the other codec's `Debug` shows the same argument of ours.
fn as_they_show(name: &str, argument: Argument<'_>) -> String {
    let name = match name {
        "no_wait" => "nowait",
        "exchange_type" | "message_type" => "kind",
        name => name,
    };
    let value = match argument {
        Argument::Bit(value) => format!("{value:?}"),
        Argument::Octet(value) => format!("{value:?}"),
        Argument::Short(value) => format!("{value:?}"),
        Argument::Long(value) => format!("{value:?}"),
        Argument::LongLong(value) => format!("{value:?}"),
        Argument::ReplyCode(value) => format!("{:?}", value.0),
        Argument::ShortStr(value) => format!("{:?}", ShortString::from(value.to_str().unwrap())),
        Argument::LongStr(value) => format!("{:?}", LongString::from(value.as_bytes())),
        Argument::Secret(value) => format!("{:?}", LongString::from(value.as_bytes())),
        Argument::Table(value) => format!("{:?}", their_table(value)),
        other => panic!("the test does not know {other:?}"),
    };
    format!(" {name}: {value}")
}

/// Arguments the other codec has no field for: it writes zero, whatever it read.
const FORGOTTEN: [(&str, &str); 2] = [("basic.qos", "prefetch_size"), ("access.request-ok", "ticket")];

fn check_method(spec: &'static MethodSpec, channel: u16, values: &[Value]) {
    let octets = method_frame(spec, channel, values);
    let ours = our_frame(&octets);
    let Frame::Method { channel: on, method } = ours else {
        panic!("not a method: {ours:?}")
    };
    assert_eq!((on, method.spec()), (channel, spec));
    assert_eq!(our_octets(&ours), octets);

    let theirs = their_frame(&octets);
    let shown = format!("{theirs:?}");
    let mut is_forgotten = false;
    method.for_each_argument(&mut |name, argument| {
        if FORGOTTEN.contains(&(spec.name, name)) {
            is_forgotten = true;
            return;
        }
        let expected = as_they_show(name, argument);
        let is_there = [", ", " }"]
            .iter()
            .any(|end| shown.contains(&format!("{expected}{end}")));
        assert!(is_there, "no {expected:?} in {shown}");
    });
    if !is_forgotten {
        assert_eq!(their_octets(&theirs), octets);
    }
}

#[test]
fn methods_are_the_same_to_both() {
    for spec in METHODS {
        let mut config = ProptestConfig::default();
        // In all about eight times the cases of the others.
        config.cases = (config.cases / 8).max(4);
        let arguments: Vec<_> = spec.arguments.iter().map(argument).collect();
        TestRunner::new(config)
            .run(&(any::<u16>(), arguments), |(channel, values)| {
                check_method(spec, channel, &values);
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{}: {failure}", spec.name));
    }
}

// ---- content headers, tables, bodies ----

/// Random properties, each there half of the time: short strings in the struct's order, then the others.
type Drawn = (
    Vec<Option<String>>,
    Option<theirs::FieldTable>,
    Option<u8>,
    Option<u8>,
    Option<u64>,
);

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        vec(option::of(short_text()), 10),
        option::of(table()),
        option::of(any::<u8>()),
        option::of(any::<u8>()),
        option::of(any::<u64>()),
    )
}

/// Makes a content header frame of them.
fn header_frame(channel: u16, body_size: u64, drawn: &Drawn) -> Vec<u8> {
    let (texts, headers, delivery_mode, priority, timestamp) = drawn;
    let headers = headers.as_ref().map(our_table);
    let text = |i: usize| texts[i].as_deref().map(|text| ShortStr::new(text).unwrap());
    let properties = Properties {
        content_type: text(0),
        content_encoding: text(1),
        headers: headers.as_ref().map(FieldTable::as_ref),
        delivery_mode: *delivery_mode,
        priority: *priority,
        correlation_id: text(2),
        reply_to: text(3),
        expiration: text(4),
        message_id: text(5),
        timestamp: *timestamp,
        message_type: text(6),
        user_id: text(7),
        app_id: text(8),
        cluster_id: text(9),
    };
    let header = ContentHeader {
        body_size,
        properties,
    };
    let octets = our_octets(&Frame::Header { channel, header });
    assert_eq!(our_frame(&octets), Frame::Header { channel, header });
    octets
}

fn any_method() -> impl Strategy<Value = (&'static MethodSpec, Vec<Value>)> {
    select(METHODS).prop_flat_map(|spec| {
        let arguments: Vec<_> = spec.arguments.iter().map(argument).collect();
        arguments.prop_map(move |values| (spec, values))
    })
}

/// Any frame's octets.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (any::<u16>(), any_method())
            .prop_map(|(channel, (spec, values))| method_frame(spec, channel, &values)),
        (any::<u16>(), any::<u64>(), drawn())
            .prop_map(|(channel, size, drawn)| header_frame(channel, size, &drawn)),
        (any::<u16>(), octets()).prop_map(|(channel, body)| frame(3, channel, &body)),
        (any::<u16>(), 4000..20_000_usize).prop_map(|(channel, size)| frame(3, channel, &vec![0xCE; size])),
        Just(frame(8, 0, b"")),
    ]
}

proptest! {
    #[test]
    fn content_headers_are_the_same_to_both(
        channel: u16, body_size: u64, drawn in drawn(),
    ) {
        let octets = header_frame(channel, body_size, &drawn);
        let theirs = their_frame(&octets);
        let AMQPFrame::Header(on, header) = &theirs else { panic!("not a header: {theirs:?}") };
        prop_assert_eq!((*on, header.class_id, header.body_size), (channel, 60, body_size));
        let shown = format!("{:?}", header.properties);
        let Frame::Header { header: ours, .. } = our_frame(&octets) else { panic!("not a header") };
        let mut present = 0;
        ours.properties.for_each(&mut |name, value| {
            let expected = as_they_show(name, value).replacen(": ", ": Some(", 1) + ")";
            assert!(shown.contains(&expected), "no {expected:?} in {shown}");
            present += 1;
        });
        // The others are not there for them either. (The text can be in a random string too, so "at least".)
        prop_assert!(shown.matches(": None").count() >= 14 - present);
        prop_assert_eq!(their_octets(&theirs), octets);
    }

    #[test]
    fn tables_are_the_same_to_both(drawn in table()) {
        let ours = our_table(&drawn);
        let read = ours.as_ref();
        prop_assert_eq!(read.validate(), Ok(()));
        prop_assert_eq!(&their_table(read), &drawn);
        let written = theirs::generation::gen_field_table(&drawn)(WriteContext::from(Vec::new())).unwrap();
        let (written, _) = written.into_inner();
        prop_assert_eq!(&written[4..], read.as_encoded());
        prop_assert_eq!(read.to_owned().unwrap(), ours);
    }

    #[test]
    fn bodies_are_the_same_to_both(channel: u16, body in octets()) {
        let octets = our_octets(&Frame::Body { channel, payload: &body });
        let theirs = their_frame(&octets);
        prop_assert_eq!(&theirs, &AMQPFrame::Body(channel, body.clone()));
        prop_assert_eq!(their_octets(&theirs), octets.clone());
        prop_assert_eq!(our_frame(&octets), Frame::Body { channel, payload: &body });
    }

    #[test]
    fn any_chunking_gives_the_same_frames(
        frames in vec(any_frame(), 1..12), chunks in vec(1..3000_usize, 1..40),
    ) {
        let octets = frames.concat();
        let mut rest = &octets[..];
        for frame in &frames {
            let raw = RawFrame::parse(rest, &LIMITS).unwrap().unwrap();
            prop_assert_eq!(&rest[..raw.size()], &frame[..]);
            rest = &rest[raw.size()..];
        }
        prop_assert_eq!(RawFrame::parse(rest, &LIMITS), Ok(None));

        let mut input = RecvBuf::new();
        let (mut rest, mut chunks) = (&octets[..], chunks.iter().cycle());
        let mut expected = frames.iter();
        while !rest.is_empty() {
            let chunk = rest.len().min(*chunks.next().unwrap());
            let taken = input.extend(&rest[..chunk]);
            rest = &rest[taken..];
            while let Some(raw) = RawFrame::parse(input.unread(), &LIMITS).unwrap() {
                let frame = expected.next().unwrap();
                let whole = RawFrame::parse(frame, &LIMITS).unwrap().unwrap();
                prop_assert_eq!(raw, whole);
                prop_assert_eq!(raw.decode(), whole.decode());
                let size = raw.size();
                input.consume(size);
            }
        }
        prop_assert!(input.unread().is_empty() && expected.next().is_none());
    }

    /// A frame with one octet changed is refused, or is another frame that is written as it is read.
    #[test]
    fn a_changed_octet_is_refused_or_understood(
        mut octets in any_frame(), place: Index, changed: u8,
    ) {
        let place = place.index(octets.len());
        octets[place] = changed;
        let Ok(Some(raw)) = RawFrame::parse(&octets, &LIMITS) else { return Ok(()) };
        let Ok(frame) = raw.decode() else { return Ok(()) };
        let shown = format!("{frame} {frame:?} {raw:?}");
        prop_assert!(!shown.contains('\n'));
        let written = our_octets(&frame);
        // Not with the same octets: unused bits and reserved fields may be those that changed.
        prop_assert_eq!(format!("{:?}", our_frame(&written)), format!("{frame:?}"));
    }

    /// Arbitrary octets as a payload of each kind.
    #[test]
    fn arbitrary_payloads_do_no_harm(
        frame_type in select(&[1_u8, 2, 3, 8, 65, 0x15][..]), spec in select(METHODS), tail in octets(),
    ) {
        let [c0, c1] = spec.id.class.to_be_bytes();
        let [m0, m1] = spec.id.method.to_be_bytes();
        let start: &[u8] = match frame_type {
            1 => &[c0, c1, m0, m1],
            2 => &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, m1, c1 & !3],
            _ => &[],
        };
        let octets = frame(frame_type, 0, &[start, &tail].concat());
        for input in [&octets[..], &octets[HEADER_SIZE..], &tail] {
            if let Ok(Some(raw)) = RawFrame::parse(input, &LIMITS)
                && let Ok(frame) = raw.decode()
            {
                let _ = format!("{frame} {frame:?}");
            }
        }
        let table = FieldTableRef::from_encoded(&tail);
        let is_valid = table.validate().is_ok();
        prop_assert_eq!(table.to_owned().is_ok(), is_valid);
        prop_assert!(!is_valid || table.iter().all(|entry| entry.is_ok()));
        let _ = format!("{table:?} {:?}", FieldArrayRef::from_encoded(&tail));
    }

    /// `FieldTable` against a list of pairs.
    #[test]
    fn an_owned_table_behaves_as_a_list_of_pairs(
        steps in vec((select(&["a", "b", "c", "dd", ""][..]), option::weighted(0.7, value())), 0..40),
    ) {
        let mut table = FieldTable::new();
        let mut model: Vec<(&str, AMQPValue)> = Vec::new();
        for (key, value) in steps {
            let place = model.iter().position(|(name, _)| *name == key);
            match (value, place) {
                (Some(value), place) => {
                    with_our_value(&value, &mut |value| table.insert(key, value).unwrap());
                    match place {
                        Some(place) => model[place].1 = value,
                        None => model.push((key, value)),
                    }
                }
                (None, place) => {
                    prop_assert_eq!(table.remove(key), place.is_some());
                    if let Some(place) = place {
                        model.remove(place);
                    }
                }
            }
            let found: Vec<_> = table
                .iter()
                .map(|(key, value)| (key.to_str().unwrap(), their_value(value)))
                .collect();
            prop_assert_eq!(&found, &model);
            prop_assert_eq!(table.get(key).is_some(), model.iter().any(|(name, _)| *name == key));
        }
    }
}
