//! Frames of the ubus socket: header, message types, attributes, and reading them from a stream.
//!
//! A frame is 8 bytes of header (version 0, type, `u16` sequence number, `u32` peer, big-endian)
//! and one blob whose members are the attributes of `enum ubus_msg_attr` (ubusmsg.h). Numbers,
//! message types and the writer of scalar attributes come from the crate `ubus-rs`; see the
//! [module documentation](super) for where that ends.

use std::fmt;

use ubus_rs::{BlobBuf, MsgType};

use super::blobmsg::{self, BlobError, RawAttrs, Table};

/// Largest blob that ubusd accepts (`UBUS_MAX_MSGLEN`, 1 MiB), in bytes. Header not counted.
pub const MAX_BLOB: usize = 1 << 20;

/// Bytes of a frame's header.
const HEADER_LEN: usize = 8;
/// Bytes of the blob's own header.
const BLOB_HEAD_LEN: usize = 4;

// Attribute numbers that ubus-rs 0.1.0 does not name, `enum ubus_msg_attr` in ubusmsg.h.
const ATTR_TARGET: u8 = 8;
const ATTR_ACTIVE: u8 = 9;
const ATTR_SUBSCRIBERS: u8 = 11;
const ATTR_USER: u8 = 12;
const ATTR_GROUP: u8 = 13;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: MsgType,
    /// Number by which an answer finds its request.
    pub seq: u16,
    /// The other side: an object's id in a request, a client's id in a call that comes in.
    pub peer: u32,
}

/// One attribute of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Attr {
    /// Outcome of a request, see [`super::Status`].
    Status(u32),
    /// Path of an object, or the pattern of a lookup.
    ObjPath(String),
    /// Id of the object that the frame is about.
    ObjId(u32),
    /// Method, notification or event name.
    Method(String),
    /// Id of an object's type (its signature).
    ObjType(u32),
    /// Methods by name; each is a table from argument name to type number.
    Signature(Table),
    /// Arguments or answer.
    Data(Table),
    /// Id of the object that is subscribed to.
    Target(u32),
    /// Whether an object has subscribers now.
    Active(bool),
    /// Whether the sender wants no answer.
    NoReply(bool),
    /// Ids of the objects that a notification went to.
    Subscribers(Vec<u32>),
    /// User of the calling process.
    User(String),
    /// Group of the calling process.
    Group(String),
}

/// A frame: header and attributes in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The attributes, in the order in which they stand in the frame.
    pub attrs: Attrs,
}

/// The attributes of one frame, in order. The getters give the first of a kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attrs(pub Vec<Attr>);

/// Why bytes are not a frame, or a frame cannot become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The header's version is not 0.
    Version(u8),
    /// The blob says that it is shorter than its own header or longer than [`MAX_BLOB`]. Bytes.
    BlobLength(usize),
    /// The frame ends before its blob does.
    Short,
    /// An attribute does not hold what its number demands.
    Attribute(u8),
    /// The blob or a table in it is malformed.
    Blob(BlobError),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Version(v) => write!(f, "frame of version {v}, expected 0"),
            WireError::BlobLength(n) => write!(f, "frame with a blob of {n} bytes"),
            WireError::Short => f.write_str("frame ends too early"),
            WireError::Attribute(id) => write!(f, "attribute {id} does not hold what it should"),
            WireError::Blob(e) => write!(f, "malformed blob: {e}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<BlobError> for WireError {
    fn from(e: BlobError) -> Self {
        WireError::Blob(e)
    }
}

/// The number of a message type; `ubus-rs` has only the other direction.
pub fn kind_number(kind: MsgType) -> u8 {
    match kind {
        MsgType::Hello => ubus_rs::MSG_HELLO,
        MsgType::Status => ubus_rs::MSG_STATUS,
        MsgType::Data => ubus_rs::MSG_DATA,
        MsgType::Ping => 3,
        MsgType::Lookup => 4,
        MsgType::Invoke => ubus_rs::MSG_INVOKE,
        MsgType::AddObject => ubus_rs::MSG_ADD_OBJECT,
        MsgType::RemoveObject => ubus_rs::MSG_REMOVE_OBJECT,
        MsgType::Subscribe => 8,
        MsgType::Unsubscribe => 9,
        MsgType::Notify => ubus_rs::MSG_NOTIFY,
        MsgType::Monitor => 11,
        MsgType::Unknown(n) => n,
    }
}

impl Frame {
    /// A frame of these parts.
    pub fn new(kind: MsgType, seq: u16, peer: u32, attrs: Vec<Attr>) -> Self {
        Frame {
            header: Header { kind, seq, peer },
            attrs: Attrs(attrs),
        }
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// [`WireError::BlobLength`] above [`MAX_BLOB`], [`WireError::Blob`] for a tree that is too
    /// deep.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let blob = self.attrs.encode()?;
        let mut out = Vec::with_capacity(HEADER_LEN.saturating_add(blob.len()));
        out.push(0);
        out.push(kind_number(self.header.kind));
        out.extend_from_slice(&self.header.seq.to_be_bytes());
        out.extend_from_slice(&self.header.peer.to_be_bytes());
        out.extend_from_slice(&blob);
        Ok(out)
    }

    /// Reads a frame that is whole. What follows the blob is ignored.
    ///
    /// # Errors
    /// Any of [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (header, blob_len) = read_head(bytes)?.ok_or(WireError::Short)?;
        let body = bytes
            .get(HEADER_LEN + BLOB_HEAD_LEN..HEADER_LEN.saturating_add(blob_len))
            .ok_or(WireError::Short)?;
        Ok(Frame {
            header,
            attrs: Attrs::decode(body)?,
        })
    }
}

/// Reads the header and the length of the blob, its own header included. `None`: not all there.
fn read_head(bytes: &[u8]) -> Result<Option<(Header, usize)>, WireError> {
    let Some(&[version, kind, s0, s1, p0, p1, p2, p3, b0, b1, b2, b3]) =
        bytes.first_chunk::<{ HEADER_LEN + BLOB_HEAD_LEN }>()
    else {
        return Ok(None);
    };
    if version != 0 {
        return Err(WireError::Version(version));
    }
    let blob_len = (u32::from_be_bytes([b0, b1, b2, b3]) & 0x00ff_ffff) as usize;
    if !(BLOB_HEAD_LEN..=MAX_BLOB).contains(&blob_len) {
        return Err(WireError::BlobLength(blob_len));
    }
    let header = Header {
        kind: MsgType::from(kind),
        seq: u16::from_be_bytes([s0, s1]),
        peer: u32::from_be_bytes([p0, p1, p2, p3]),
    };
    Ok(Some((header, blob_len)))
}

impl Attrs {
    /// The first status.
    pub fn status(&self) -> Option<u32> {
        self.find(|a| match a {
            Attr::Status(n) => Some(*n),
            _ => None,
        })
    }

    /// The first object id.
    pub fn objid(&self) -> Option<u32> {
        self.find(|a| match a {
            Attr::ObjId(n) => Some(*n),
            _ => None,
        })
    }

    /// The first type id.
    pub fn objtype(&self) -> Option<u32> {
        self.find(|a| match a {
            Attr::ObjType(n) => Some(*n),
            _ => None,
        })
    }

    /// The first object path.
    pub fn objpath(&self) -> Option<&str> {
        self.find(|a| match a {
            Attr::ObjPath(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// The first method name.
    pub fn method(&self) -> Option<&str> {
        self.find(|a| match a {
            Attr::Method(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// The first signature.
    pub fn signature(&self) -> Option<&Table> {
        self.find(|a| match a {
            Attr::Signature(t) => Some(t),
            _ => None,
        })
    }

    /// The first data.
    pub fn data(&self) -> Option<&Table> {
        self.find(|a| match a {
            Attr::Data(t) => Some(t),
            _ => None,
        })
    }

    /// The first target id.
    pub fn target(&self) -> Option<u32> {
        self.find(|a| match a {
            Attr::Target(n) => Some(*n),
            _ => None,
        })
    }

    /// The first subscriber notice.
    pub fn active(&self) -> Option<bool> {
        self.find(|a| match a {
            Attr::Active(b) => Some(*b),
            _ => None,
        })
    }

    /// The first list of subscribers.
    pub fn subscribers(&self) -> Option<&[u32]> {
        self.find(|a| match a {
            Attr::Subscribers(ids) => Some(ids.as_slice()),
            _ => None,
        })
    }

    /// Whether the sender wants no answer.
    pub fn no_reply(&self) -> bool {
        self.find(|a| match a {
            Attr::NoReply(b) => Some(*b),
            _ => None,
        })
        .unwrap_or(false)
    }

    fn find<'a, T>(&'a self, pick: impl Fn(&'a Attr) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(pick)
    }

    /// The blob that holds these attributes, its header included.
    ///
    /// `ubus_rs::BlobBuf` writes the scalar attributes. It cannot take ready bytes and knows only
    /// two of blobmsg's types, so SIGNATURE and DATA are written by [`blobmsg`] between its runs.
    fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut out = vec![0; BLOB_HEAD_LEN];
        let mut run = BlobBuf::new();
        for attr in &self.0 {
            match attr {
                Attr::Signature(table) | Attr::Data(table) => {
                    flush(&mut out, std::mem::take(&mut run));
                    blobmsg::write_nested(&mut out, attr.number(), table)?;
                }
                Attr::Status(n) | Attr::ObjId(n) | Attr::ObjType(n) | Attr::Target(n) => {
                    run.put_u32(attr.number(), *n);
                }
                Attr::Active(b) | Attr::NoReply(b) => run.put_u8(attr.number(), u8::from(*b)),
                Attr::ObjPath(s) | Attr::Method(s) | Attr::User(s) | Attr::Group(s) => {
                    // BlobBuf does not check that a length fits its 24 bits.
                    if s.len() > MAX_BLOB {
                        return Err(WireError::BlobLength(s.len()));
                    }
                    run.put_string(attr.number(), blobmsg::up_to_nul(s));
                }
                Attr::Subscribers(ids) => {
                    if ids.len() > MAX_BLOB / 8 {
                        return Err(WireError::BlobLength(ids.len().saturating_mul(8)));
                    }
                    let at = run.nest_start(attr.number());
                    for id in ids {
                        run.put_u32(0, *id);
                    }
                    run.nest_end(at);
                }
            }
        }
        flush(&mut out, run);
        let len = u32::try_from(out.len())
            .ok()
            .filter(|_| out.len() <= MAX_BLOB)
            .ok_or(WireError::BlobLength(out.len()))?
            .to_be_bytes();
        if let Some(head) = out.first_chunk_mut::<BLOB_HEAD_LEN>() {
            *head = len;
        }
        Ok(out)
    }

    fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut attrs = Vec::new();
        for raw in RawAttrs::new(body) {
            let raw = raw?;
            let number = raw.id;
            let wrong = |_| WireError::Attribute(number);
            let u32 = || raw.body.try_into().map(u32::from_be_bytes).map_err(wrong);
            let bool = || raw.body.first().map(|b| *b != 0);
            let bool = || bool().ok_or(WireError::Attribute(number));
            let text = || blobmsg::read_text(raw.body).map_err(|_| WireError::Attribute(number));
            attrs.push(match number {
                ubus_rs::ATTR_STATUS => Attr::Status(u32()?),
                ubus_rs::ATTR_OBJPATH => Attr::ObjPath(text()?),
                ubus_rs::ATTR_OBJID => Attr::ObjId(u32()?),
                ubus_rs::ATTR_METHOD => Attr::Method(text()?),
                ubus_rs::ATTR_OBJTYPE => Attr::ObjType(u32()?),
                ubus_rs::ATTR_SIGNATURE => Attr::Signature(blobmsg::decode(raw.body)?),
                ubus_rs::ATTR_DATA => Attr::Data(blobmsg::decode(raw.body)?),
                ATTR_TARGET => Attr::Target(u32()?),
                ATTR_ACTIVE => Attr::Active(bool()?),
                ubus_rs::ATTR_NO_REPLY => Attr::NoReply(bool()?),
                ATTR_SUBSCRIBERS => Attr::Subscribers(read_ids(raw.body)?),
                ATTR_USER => Attr::User(text()?),
                ATTR_GROUP => Attr::Group(text()?),
                // What a newer ubusd may add is skipped, as libubus does.
                _ => continue,
            });
        }
        Ok(Attrs(attrs))
    }
}

/// Appends the attributes of `run` (its own header left out) to `out`.
fn flush(out: &mut Vec<u8>, run: BlobBuf) {
    out.extend_from_slice(run.bytes().get(BLOB_HEAD_LEN..).unwrap_or(&[]));
}

/// The ids in a SUBSCRIBERS attribute: attributes of number 0 with 32 bits each.
fn read_ids(body: &[u8]) -> Result<Vec<u32>, WireError> {
    RawAttrs::new(body)
        .map(|raw| {
            raw?.body
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| WireError::Attribute(ATTR_SUBSCRIBERS))
        })
        .collect()
}

impl Attr {
    fn number(&self) -> u8 {
        match self {
            Attr::Status(_) => ubus_rs::ATTR_STATUS,
            Attr::ObjPath(_) => ubus_rs::ATTR_OBJPATH,
            Attr::ObjId(_) => ubus_rs::ATTR_OBJID,
            Attr::Method(_) => ubus_rs::ATTR_METHOD,
            Attr::ObjType(_) => ubus_rs::ATTR_OBJTYPE,
            Attr::Signature(_) => ubus_rs::ATTR_SIGNATURE,
            Attr::Data(_) => ubus_rs::ATTR_DATA,
            Attr::Target(_) => ATTR_TARGET,
            Attr::Active(_) => ATTR_ACTIVE,
            Attr::NoReply(_) => ubus_rs::ATTR_NO_REPLY,
            Attr::Subscribers(_) => ATTR_SUBSCRIBERS,
            Attr::User(_) => ATTR_USER,
            Attr::Group(_) => ATTR_GROUP,
        }
    }
}

/// Cuts a stream of bytes, which arrives in pieces of any size, into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were already given out.
    used: usize,
}

/// A frame cut from the stream. Its header holds; its attributes may still be malformed, and then
/// the stream goes on behind it all the same.
#[derive(Debug, PartialEq)]
pub struct Cut {
    /// The header.
    pub header: Header,
    /// The attributes, or why they cannot be read.
    pub attrs: Result<Attrs, WireError>,
}

/// Room that the reader keeps between frames, in bytes; what a large frame took beyond is freed.
const KEPT_ROOM: usize = 16 * 1024;

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes that arrived next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` if more bytes are needed.
    ///
    /// # Errors
    /// The header is wrong, so it is not known where the next frame begins: give up the stream.
    /// Later calls give the same error.
    pub fn next_frame(&mut self) -> Result<Option<Cut>, WireError> {
        let rest = self.buffer.get(self.used..).unwrap_or(&[]);
        let Some((header, blob_len)) = read_head(rest)? else {
            self.drop_used();
            return Ok(None);
        };
        let end = HEADER_LEN.saturating_add(blob_len);
        let Some(body) = rest.get(HEADER_LEN + BLOB_HEAD_LEN..end) else {
            self.drop_used();
            return Ok(None);
        };
        let attrs = Attrs::decode(body);
        self.used = self.used.saturating_add(end);
        Ok(Some(Cut { header, attrs }))
    }

    /// Moves what is left to the front and gives large room back.
    fn drop_used(&mut self) {
        if self.used > 0 {
            self.buffer.drain(..self.used.min(self.buffer.len()));
            self.used = 0;
            if self.buffer.len() < KEPT_ROOM {
                self.buffer.shrink_to(KEPT_ROOM);
            }
        }
    }
}
