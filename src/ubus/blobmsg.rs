//! blobmsg, the typed tree that ubus carries: `Value`, its bytes, and its JSON.
//!
//! The layout is libubox's (`blobmsg.h`, `blobmsg.c`). An attribute is a big-endian word (bit 31
//! "extended", bits 24-30 the type, bits 0-23 the length with this word included), then a name
//! (`u16` length, the bytes, a NUL, padded to 4), then the value. The next attribute begins at a
//! multiple of 4. Padding is always zero.
//!
//! Everything read here may come from any process on the router, so nothing panics, nesting is
//! bounded by [`MAX_DEPTH`], and a length that does not fit its surroundings is an error.

use std::fmt;

/// Deepest nesting of tables and arrays that is read or written.
///
/// netifd's and procd's deepest answers have 6 levels; the bound keeps the stack small.
pub const MAX_DEPTH: usize = 32;

/// Largest attribute, its header included (24 bits of length).
const MAX_ATTR: u32 = 0x00ff_ffff;

/// Bit 31 of an attribute's first word: "a name follows".
const EXTENDED: u32 = ubus_rs::EXTENDED;

// Type numbers, `enum blobmsg_type` in libubox's blobmsg.h.
const TYPE_UNSPEC: u8 = 0;
const TYPE_ARRAY: u8 = 1;
const TYPE_TABLE: u8 = 2;
const TYPE_STRING: u8 = ubus_rs::BLOBMSG_STRING;
const TYPE_INT64: u8 = 4;
const TYPE_INT32: u8 = ubus_rs::BLOBMSG_INT32;
const TYPE_INT16: u8 = 6;
const TYPE_INT8: u8 = 7;
const TYPE_DOUBLE: u8 = 8;

/// A table: names and values in the order in which they came.
///
/// blobmsg allows a name twice; [`Value::get`] then gives the first.
pub type Table = Vec<(String, Value)>;

/// One blobmsg value.
///
/// Integers are signed here. blobmsg does not say whether its integers are signed; libubox prints
/// them as signed, so `object` ids above 2^31 are negative here (see [`Value::u32`]).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Type "unspecified" with an empty body: JSON's null.
    Null,
    /// Named values.
    Table(Table),
    /// Unnamed values.
    Array(Vec<Value>),
    /// Text. It ends at the first NUL, as for every reader written in C.
    String(String),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit integer, what JSON numbers become when they fit.
    I32(i32),
    /// A 16-bit integer; seldom used.
    I16(i16),
    /// blobmsg's 8-bit integer, which everybody uses as a truth value.
    Bool(bool),
    /// A 64-bit float.
    Double(f64),
}

/// Why bytes are not blobmsg, or a tree cannot become blobmsg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobError {
    /// An attribute's length is below its header's or runs past its surroundings.
    Length,
    /// A name runs past its attribute.
    Name,
    /// A value's body does not have the size that its type needs.
    Size,
    /// Text is not UTF-8 or has no NUL at its end.
    Text,
    /// A type number that blobmsg does not have.
    Type(u8),
    /// Nested deeper than [`MAX_DEPTH`].
    Depth,
    /// Larger than the format can say.
    TooLarge,
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobError::Length => f.write_str("an attribute's length does not fit"),
            BlobError::Name => f.write_str("an attribute's name does not fit"),
            BlobError::Size => f.write_str("a value has the wrong size for its type"),
            BlobError::Text => f.write_str("text without an end, or not UTF-8"),
            BlobError::Type(t) => write!(f, "unknown blobmsg type {t}"),
            BlobError::Depth => write!(f, "nested deeper than {MAX_DEPTH} levels"),
            BlobError::TooLarge => f.write_str("too large for a message"),
        }
    }
}

impl std::error::Error for BlobError {}

// ---------------------------------------------------------------------------------------------
// Plain blob attributes, shared with the frame layer
// ---------------------------------------------------------------------------------------------

/// One attribute as it lies in memory: the type or id, whether a name follows, and the body.
pub(super) struct RawAttr<'a> {
    pub id: u8,
    pub extended: bool,
    pub body: &'a [u8],
}

/// Goes over the attributes that lie one after another in `bytes`; ends after the first error.
pub(super) struct RawAttrs<'a> {
    rest: &'a [u8],
}

impl<'a> RawAttrs<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        RawAttrs { rest: bytes }
    }
}

impl<'a> Iterator for RawAttrs<'a> {
    type Item = Result<RawAttr<'a>, BlobError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((head, after_head)) = self.rest.split_first_chunk::<4>() else {
            self.rest = &[];
            return Some(Err(BlobError::Length));
        };
        let word = u32::from_be_bytes(*head);
        let len = (word & 0x00ff_ffff) as usize;
        let Some(body) = len.checked_sub(4).and_then(|n| after_head.get(..n)) else {
            self.rest = &[];
            return Some(Err(BlobError::Length));
        };
        // The last attribute's padding may be missing.
        self.rest = self.rest.get(padded(len)..).unwrap_or(&[]);
        Some(Ok(RawAttr {
            id: ((word >> 24) & 0x7f) as u8,
            extended: word & EXTENDED != 0,
            body,
        }))
    }
}

/// `n` rounded up to the next multiple of 4.
fn padded(n: usize) -> usize {
    n.next_multiple_of(4)
}

/// Appends an attribute's header; [`close`] writes its length.
fn open(out: &mut Vec<u8>, id: u8, extended: bool) -> usize {
    let at = out.len();
    let flag = if extended { EXTENDED } else { 0 };
    out.extend_from_slice(&(flag | (u32::from(id) << 24)).to_be_bytes());
    at
}

/// Writes the length of the attribute opened at `at` and pads to 4.
fn close(out: &mut Vec<u8>, at: usize) -> Result<(), BlobError> {
    let len = u32::try_from(out.len().saturating_sub(at))
        .ok()
        .filter(|len| *len <= MAX_ATTR)
        .ok_or(BlobError::TooLarge)?;
    if let Some(head) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *head = (u32::from_be_bytes(*head) | len).to_be_bytes();
    }
    out.resize(padded(out.len()), 0);
    Ok(())
}

/// Appends a plain (unnamed) attribute that holds a table's members: ubus's DATA and SIGNATURE.
pub(super) fn write_nested(out: &mut Vec<u8>, id: u8, table: &Table) -> Result<(), BlobError> {
    let at = open(out, id, false);
    write_members(out, table, 0)?;
    close(out, at)
}

/// The text in `body`, which must hold a NUL; what follows the first NUL is ignored.
pub(super) fn read_text(body: &[u8]) -> Result<String, BlobError> {
    let end = body.iter().position(|b| *b == 0).ok_or(BlobError::Text)?;
    let text = body.get(..end).ok_or(BlobError::Text)?;
    std::str::from_utf8(text)
        .map(str::to_owned)
        .map_err(|_| BlobError::Text)
}

/// `text` up to its first NUL: what a reader written in C will see.
pub(super) fn up_to_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or("")
}

// ---------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------

/// Reads the members of a table from the body of the attribute that holds them.
///
/// # Errors
/// Any malformation makes the whole table unreadable; see [`BlobError`].
pub fn decode(bytes: &[u8]) -> Result<Table, BlobError> {
    read_members(bytes, 0)
}

fn read_members(bytes: &[u8], depth: usize) -> Result<Table, BlobError> {
    if depth > MAX_DEPTH {
        return Err(BlobError::Depth);
    }
    RawAttrs::new(bytes)
        .map(|attr| read_member(&attr?, depth))
        .collect()
}

fn read_member(attr: &RawAttr<'_>, depth: usize) -> Result<(String, Value), BlobError> {
    let (name, body) = if attr.extended {
        split_name(attr.body)?
    } else {
        (String::new(), attr.body)
    };
    let value = match attr.id {
        TYPE_UNSPEC => Value::Null,
        TYPE_TABLE => Value::Table(read_members(body, depth.saturating_add(1))?),
        TYPE_ARRAY => Value::Array(
            read_members(body, depth.saturating_add(1))?
                .into_iter()
                .map(|(_, value)| value)
                .collect(),
        ),
        TYPE_STRING => Value::String(read_text(body)?),
        TYPE_INT64 => Value::I64(i64::from_be_bytes(exactly(body)?)),
        TYPE_INT32 => Value::I32(i32::from_be_bytes(exactly(body)?)),
        TYPE_INT16 => Value::I16(i16::from_be_bytes(exactly(body)?)),
        TYPE_INT8 => Value::Bool(exactly::<1>(body)? != [0]),
        TYPE_DOUBLE => Value::Double(f64::from_be_bytes(exactly(body)?)),
        other => return Err(BlobError::Type(other)),
    };
    Ok((name, value))
}

/// Splits an extended attribute's body into its name and its value's bytes.
fn split_name(body: &[u8]) -> Result<(String, &[u8]), BlobError> {
    let (len, rest) = body.split_first_chunk::<2>().ok_or(BlobError::Name)?;
    let len = usize::from(u16::from_be_bytes(*len));
    let name = rest.get(..len).ok_or(BlobError::Name)?;
    let value = body
        .get(padded(len.saturating_add(3))..)
        .ok_or(BlobError::Name)?;
    let name = std::str::from_utf8(name).map_err(|_| BlobError::Text)?;
    Ok((up_to_nul(name).to_owned(), value))
}

fn exactly<const N: usize>(body: &[u8]) -> Result<[u8; N], BlobError> {
    body.try_into().map_err(|_| BlobError::Size)
}

// ---------------------------------------------------------------------------------------------
// Writing
// ---------------------------------------------------------------------------------------------

/// The bytes of a table's members, one after another, as they lie in a DATA attribute.
///
/// # Errors
/// [`BlobError::Depth`] and [`BlobError::TooLarge`].
pub fn encode(table: &Table) -> Result<Vec<u8>, BlobError> {
    let mut out = Vec::new();
    write_members(&mut out, table, 0)?;
    Ok(out)
}

fn write_members(out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<(), BlobError> {
    table
        .iter()
        .try_for_each(|(name, value)| write_member(out, name, value, depth))
}

fn write_member(
    out: &mut Vec<u8>,
    name: &str,
    value: &Value,
    depth: usize,
) -> Result<(), BlobError> {
    if depth > MAX_DEPTH {
        return Err(BlobError::Depth);
    }
    let name = up_to_nul(name);
    let name_len = u16::try_from(name.len()).map_err(|_| BlobError::TooLarge)?;
    let at = open(out, value.type_number(), true);
    out.extend_from_slice(&name_len.to_be_bytes());
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(padded(out.len()), 0);
    match value {
        Value::Null => {}
        Value::Table(members) => write_members(out, members, depth.saturating_add(1))?,
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| write_member(out, "", value, depth.saturating_add(1)))?,
        Value::String(text) => {
            out.extend_from_slice(up_to_nul(text).as_bytes());
            out.push(0);
        }
        Value::I64(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::I32(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::I16(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::Double(n) => out.extend_from_slice(&n.to_be_bytes()),
    }
    close(out, at)
}

// ---------------------------------------------------------------------------------------------
// Looking into a value
// ---------------------------------------------------------------------------------------------

impl Value {
    /// The first member called `name`, if this is a table that has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Table(table) => member(table, name),
            _ => None,
        }
    }

    /// The elements, if this is an array.
    pub fn array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The members, if this is a table.
    pub fn table(&self) -> Option<&Table> {
        match self {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is an integer of any width. Truth values are not numbers.
    pub fn i64(&self) -> Option<i64> {
        match self {
            Value::I64(n) => Some(*n),
            Value::I32(n) => Some(i64::from(*n)),
            Value::I16(n) => Some(i64::from(*n)),
            _ => None,
        }
    }

    /// The 32 bits of an integer read as unsigned: object ids and addresses.
    pub fn u32(&self) -> Option<u32> {
        match self {
            Value::I32(n) => Some(n.cast_unsigned()),
            other => other.i64().and_then(|n| u32::try_from(n).ok()),
        }
    }

    /// The truth value, if this is one.
    pub fn bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// This value as JSON, as the `ubus` command prints it.
    ///
    /// A float that JSON cannot say (NaN, infinity) becomes null. Of a name that comes twice, the
    /// last value stays.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Table(table) => table_to_json(table),
            Value::Array(values) => Json::Array(values.iter().map(Value::to_json).collect()),
            Value::String(text) => Json::String(text.clone()),
            Value::I64(n) => Json::from(*n),
            Value::I32(n) => Json::from(*n),
            Value::I16(n) => Json::from(*n),
            Value::Bool(b) => Json::Bool(*b),
            Value::Double(n) => Json::from(*n),
        }
    }

    /// The value that libubox makes of the same JSON (`blobmsg_add_json_element`): an integer
    /// becomes 32 bits wide if it fits, else 64; one beyond `i64` becomes a float.
    pub fn from_json(json: serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => i32::try_from(n).map_or(Value::I64(n), Value::I32),
                None => Value::Double(n.as_f64().unwrap_or(0.0)),
            },
            Json::String(text) => Value::String(text),
            Json::Array(values) => Value::Array(values.into_iter().map(Value::from_json).collect()),
            Json::Object(members) => Value::Table(table(members)),
        }
    }

    fn type_number(&self) -> u8 {
        match self {
            Value::Null => TYPE_UNSPEC,
            Value::Array(_) => TYPE_ARRAY,
            Value::Table(_) => TYPE_TABLE,
            Value::String(_) => TYPE_STRING,
            Value::I64(_) => TYPE_INT64,
            Value::I32(_) => TYPE_INT32,
            Value::I16(_) => TYPE_INT16,
            Value::Bool(_) => TYPE_INT8,
            Value::Double(_) => TYPE_DOUBLE,
        }
    }
}

/// The first member of `table` called `name`.
pub fn member<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    table.iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

/// A table as a JSON object.
pub fn table_to_json(table: &Table) -> serde_json::Value {
    serde_json::Value::Object(
        table
            .iter()
            .map(|(name, value)| (name.clone(), value.to_json()))
            .collect(),
    )
}

/// A JSON object as a table; any other JSON gives an empty table.
///
/// The members' order is that of `serde_json`'s map. The JSON goes as the table grows: a whole
/// state need not be in memory twice.
pub fn table_from_json(json: serde_json::Value) -> Table {
    match json {
        serde_json::Value::Object(members) => table(members),
        _ => Table::new(),
    }
}

fn table(members: serde_json::Map<String, serde_json::Value>) -> Table {
    members
        .into_iter()
        .map(|(name, value)| (name, Value::from_json(value)))
        .collect()
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Value::I32(n)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::I64(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Value::Double(n)
    }
}

impl From<Table> for Value {
    fn from(table: Table) -> Self {
        Value::Table(table)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Value::Array(values)
    }
}

/// What a method's argument must be; `ubus -v list` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Anything.
    Any,
    /// An array.
    Array,
    /// A table.
    Table,
    /// Text.
    String,
    /// An integer that may need 64 bits.
    I64,
    /// An integer.
    I32,
    /// A small integer.
    I16,
    /// A truth value.
    Bool,
    /// A float.
    Double,
}

impl Type {
    /// The number that stands for this type in a signature.
    pub fn number(self) -> i32 {
        i32::from(match self {
            Type::Any => TYPE_UNSPEC,
            Type::Array => TYPE_ARRAY,
            Type::Table => TYPE_TABLE,
            Type::String => TYPE_STRING,
            Type::I64 => TYPE_INT64,
            Type::I32 => TYPE_INT32,
            Type::I16 => TYPE_INT16,
            Type::Bool => TYPE_INT8,
            Type::Double => TYPE_DOUBLE,
        })
    }

    /// Whether `value` may be given for this type.
    ///
    /// Integers of every width count as integers: the `ubus` command picks the width by the
    /// number's size, not by the signature. The same goes for whole numbers given for a float.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Type::Any => true,
            Type::Array => matches!(value, Value::Array(_)),
            Type::Table => matches!(value, Value::Table(_)),
            Type::String => matches!(value, Value::String(_)),
            Type::I64 | Type::I32 | Type::I16 => value.i64().is_some(),
            Type::Bool => matches!(value, Value::Bool(_)),
            Type::Double => matches!(value, Value::Double(_)) || value.i64().is_some(),
        }
    }
}
