//! The codec against recorded frames of a real ubusd and its clients, and against any bytes.

mod ubus_support;

use proptest::prelude::*;
use tailover::ubus::blobmsg::{self, BlobError, Table, Value, MAX_DEPTH};
use tailover::ubus::session::{Incident, Session};
use tailover::ubus::wire::{Attr, Frame, FrameReader, WireError, MAX_BLOB};
use ubus_rs::MsgType;
use ubus_support::{all, one};

#[test]
fn every_recorded_frame_is_read_and_written_bit_for_bit() {
    let mut frames = 0;
    for recording in all() {
        for recorded in &recording.frames {
            let written = recorded.frame.encode().expect("a frame that was read");
            assert_eq!(written, recorded.bytes, "{}", recording.name);
            frames += 1;
        }
    }
    assert_eq!(frames, 158, "frames in the recordings");
}

#[test]
fn answers_read_as_the_ubus_command_prints_them() {
    for name in [
        "call_interface_dump",
        "call_mwan3_status",
        "call_service_list",
        "call_uci_get",
    ] {
        let recording = one(name);
        let printed: serde_json::Value =
            serde_json::from_str(&recording.cli_output).expect("printed JSON");
        let answer = recording
            .frames
            .iter()
            .find_map(|r| {
                r.frame
                    .attrs
                    .data()
                    .filter(|d| !d.is_empty() && r.from == ubus_support::From::Ubusd)
            })
            .expect("an answer");
        assert_eq!(blobmsg::table_to_json(answer), printed, "{name}");
    }
}

#[test]
fn every_type_survives_the_way_from_json_to_bytes_and_back() {
    // What the recorded command was given; the recording shows what the real one made of it.
    let json = serde_json::json!({
        "text": "x", "int": 7, "neg": -1, "big": 5_000_000_000_i64, "flag": true,
        "list": [1, "two", false], "table": {"pi": 3.25, "empty": {}}, "null": null
    });
    let recording = one("send_event");
    let sent = recording.frames[1].frame.attrs.data().expect("data");
    let sent = blobmsg::member(sent, "data").expect("data in the event");
    assert_eq!(sent.to_json(), json);
    // serde_json sorts names, so the trees are compared by name.
    let ours = Value::from_json(json);
    for (name, value) in sent.table().expect("a table") {
        if name != "table" {
            assert_eq!(ours.get(name), Some(value), "{name}");
        }
    }
    assert_eq!(
        ours.get("table").and_then(|t| t.get("pi")),
        Some(&Value::Double(3.25))
    );
}

#[test]
fn integers_take_the_width_that_libubox_would_choose() {
    let width = |text: &str| Value::from_json(serde_json::from_str(text).expect("JSON"));
    assert_eq!(width("2147483647"), Value::I32(i32::MAX));
    assert_eq!(width("2147483648"), Value::I64(2_147_483_648));
    assert_eq!(width("-2147483649"), Value::I64(-2_147_483_649));
    assert_eq!(
        width("18446744073709551615"),
        Value::Double(18_446_744_073_709_551_615.0)
    );
}

/// A frame whose blob is exactly as large as ubusd takes.
fn largest_frame() -> Frame {
    let text = |n: usize| {
        let data = vec![("text".to_owned(), Value::String("x".repeat(n)))];
        Frame::new(MsgType::Data, 7, 9, vec![Attr::ObjId(1), Attr::Data(data)])
    };
    let overhead = text(1000).encode().expect("small").len() - 8 - 1000;
    // `overhead` holds up to three bytes of padding, which a longer text uses up.
    let frame = text(MAX_BLOB - overhead);
    assert_eq!(frame.encode().expect("the largest").len(), MAX_BLOB + 8);
    frame
}

#[test]
fn a_frame_of_one_mebibyte_arrives_byte_by_byte() {
    let frame = largest_frame();
    let bytes = frame.encode().expect("the largest");
    let mut reader = FrameReader::new();
    let (last, before) = bytes.split_last().expect("bytes");
    for byte in before {
        reader.push(std::slice::from_ref(byte));
        assert_eq!(reader.next_frame(), Ok(None));
    }
    reader.push(std::slice::from_ref(last));
    let cut = reader
        .next_frame()
        .expect("a good stream")
        .expect("a frame");
    assert_eq!(cut.attrs.as_ref(), Ok(&frame.attrs));
    assert_eq!(reader.next_frame(), Ok(None));
}

#[test]
fn larger_than_one_mebibyte_is_neither_written_nor_read() {
    let data = vec![("text".to_owned(), Value::String("x".repeat(MAX_BLOB)))];
    let frame = Frame::new(MsgType::Data, 1, 1, vec![Attr::Data(data)]);
    assert!(matches!(frame.encode(), Err(WireError::BlobLength(n)) if n > MAX_BLOB));

    let mut reader = FrameReader::new();
    reader.push(&[0, 2, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 4]);
    assert_eq!(
        reader.next_frame(),
        Err(WireError::BlobLength(MAX_BLOB + 4))
    );
}

#[test]
fn a_blob_shorter_than_its_own_head_ends_the_stream() {
    let mut reader = FrameReader::new();
    reader.push(&[0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(reader.next_frame(), Err(WireError::BlobLength(3)));
}

#[test]
fn a_malformed_frame_is_skipped_and_the_next_one_read() {
    // OBJID with a body of two bytes.
    let bad = [0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 12, 3, 0, 0, 6, 1, 2, 0, 0];
    let good = Frame::new(MsgType::Status, 3, 0, vec![Attr::Status(0)]);
    let mut reader = FrameReader::new();
    reader.push(&bad);
    reader.push(&good.encode().expect("small"));
    let first = reader
        .next_frame()
        .expect("a good header")
        .expect("a frame");
    assert_eq!(first.attrs, Err(WireError::Attribute(3)));
    let second = reader
        .next_frame()
        .expect("a good header")
        .expect("a frame");
    assert_eq!(second.attrs, Ok(good.attrs));
}

/// Tables within tables, `levels` deep.
fn nested(levels: usize) -> Table {
    (0..levels).fold(vec![], |inner, _| {
        vec![("t".to_owned(), Value::Table(inner))]
    })
}

#[test]
fn depth_is_bounded_both_ways() {
    let deepest = blobmsg::encode(&nested(MAX_DEPTH)).expect("as deep as allowed");
    assert_eq!(blobmsg::decode(&deepest), Ok(nested(MAX_DEPTH)));
    assert_eq!(
        blobmsg::encode(&nested(MAX_DEPTH + 2)),
        Err(BlobError::Depth)
    );
    // One level more around bytes that are just deep enough.
    let body = u32::try_from(deepest.len() + 8).expect("small");
    let mut deeper = (0x8200_0000 | body).to_be_bytes().to_vec();
    deeper.extend_from_slice(&[0, 0, 0, 0]);
    deeper.extend_from_slice(&deepest);
    assert_eq!(blobmsg::decode(&deeper), Err(BlobError::Depth));
}

#[test]
fn text_ends_at_the_first_nul_for_everybody() {
    let table = vec![("a\0b".to_owned(), Value::from("c\0d"))];
    let bytes = blobmsg::encode(&table).expect("small");
    let read = vec![("a".to_owned(), Value::from("c"))];
    assert_eq!(blobmsg::decode(&bytes), Ok(read));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i16>().prop_map(Value::I16),
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(Value::I64),
        // Not NaN, which is not equal to itself.
        (-1e300..1e300f64).prop_map(Value::Double),
        text().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((text(), inner), 0..6).prop_map(Value::Table),
        ]
    })
}

/// Text without NUL, of all lengths modulo the padding.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::char::range('\u{1}', '\u{2fff}'), 0..9)
        .prop_map(|chars| chars.into_iter().collect())
}

fn table() -> impl Strategy<Value = Table> {
    prop::collection::vec((text(), value()), 0..6)
}

fn attr() -> impl Strategy<Value = Attr> {
    prop_oneof![
        any::<u32>().prop_map(Attr::Status),
        text().prop_map(Attr::ObjPath),
        any::<u32>().prop_map(Attr::ObjId),
        text().prop_map(Attr::Method),
        any::<u32>().prop_map(Attr::ObjType),
        table().prop_map(Attr::Signature),
        table().prop_map(Attr::Data),
        any::<u32>().prop_map(Attr::Target),
        any::<bool>().prop_map(Attr::Active),
        any::<bool>().prop_map(Attr::NoReply),
        prop::collection::vec(any::<u32>(), 0..5).prop_map(Attr::Subscribers),
        text().prop_map(Attr::User),
        text().prop_map(Attr::Group),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let attrs = prop::collection::vec(attr(), 0..6);
    (any::<u8>(), any::<u16>(), any::<u32>(), attrs)
        .prop_map(|(kind, seq, peer, attrs)| Frame::new(MsgType::from(kind), seq, peer, attrs))
}

proptest! {
    #[test]
    fn any_frame_survives_the_wire(frame in frame()) {
        let bytes = frame.encode().expect("a small frame");
        prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
    }

    #[test]
    fn a_stream_may_be_split_anywhere(
        frames in prop::collection::vec(frame(), 1..6),
        sizes in prop::collection::vec(1usize..40, 1..20),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(|f| f.encode().expect("small")).collect();
        let mut reader = FrameReader::new();
        let mut read = vec![];
        let mut rest = stream.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            reader.push(piece);
            rest = after;
            while let Some(cut) = reader.next_frame().expect("a good stream") {
                read.push(Frame { header: cut.header, attrs: cut.attrs.expect("good attributes") });
            }
        }
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Frame::decode(&bytes);
        let _ = blobmsg::decode(&bytes);
        let mut session = Session::new();
        let _ = session.receive(&bytes, &mut vec![]);
    }

    /// Random bytes seldom get past the header, so a good frame is damaged in a few places.
    #[test]
    fn no_damaged_frame_panics(
        frame in frame(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = frame.encode().expect("a small frame");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = Frame::decode(&bytes) {
            // Whatever was read can be written, and is then read as the same.
            let again = read.encode().expect("no larger than what was read");
            let same = Frame::decode(&again).expect("our own frame");
            prop_assert_eq!(format!("{same:?}"), format!("{read:?}"));
        }
        let mut session = Session::new();
        let mut incidents: Vec<Incident> = vec![];
        let _ = session.receive(&bytes, &mut incidents);
    }
}
