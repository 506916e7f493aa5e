//! Netlink messages as bytes: building requests, walking messages and attributes (netlink(7)).
//!
//! Only what `rtnetlink` and `nftables` need, and it reads only the attributes it asks for: a newer kernel's
//! unknown or grown attribute never costs us the message around it.

/// struct nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32, host byte order.
const HEADER_LEN: usize = 16;
/// struct nlattr: length u16, type u16.
const ATTR_HEADER_LEN: usize = 4;
/// NLA_F_NESTED and NLA_F_NET_BYTEORDER, which are no part of the type.
const ATTR_FLAGS: u16 = 0xc000;

/// A message being built.
pub(in crate::net) struct Builder(Vec<u8>);

impl Builder {
    /// Starts a message with its family header (struct rtmsg and the like).
    pub(in crate::net) fn new(kind: u16, flags: u16, sequence: u32, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        // The length comes last, in `finish`.
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(family_header);
        Self(bytes)
    }

    /// Adds an attribute. Values here are numbers, addresses and device names.
    pub(in crate::net) fn attr(&mut self, kind: u16, value: &[u8]) {
        put_attr(&mut self.0, kind, value);
    }

    /// Adds a number.
    pub(in crate::net) fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// Adds a name, with the NUL the kernel wants.
    pub(in crate::net) fn name(&mut self, kind: u16, name: &str) {
        put_name(&mut self.0, kind, name);
    }

    /// The finished message.
    pub(in crate::net) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(field) = self.0.get_mut(..4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.0
    }
}

fn put_attr(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTR_HEADER_LEN.saturating_add(value.len())).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Adds a name with its NUL as an attribute, behind a family header whose length is a multiple of
/// four.
pub(in crate::net) fn put_name(bytes: &mut Vec<u8>, kind: u16, name: &str) {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    put_attr(bytes, kind, &value);
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) struct Message<'a> {
    pub(in crate::net) kind: u16,
    pub(in crate::net) flags: u16,
    pub(in crate::net) sequence: u32,
    pub(in crate::net) payload: &'a [u8],
}

/// Walks the messages of a datagram. Ends early at a message that does not fit.
pub(in crate::net) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = Message {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            payload: datagram.get(HEADER_LEN..length)?,
        };
        // The last message may come without its padding.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Walks the attributes behind a family header. Ends early at one that does not fit.
pub(in crate::net) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & !ATTR_FLAGS;
        let value = bytes.get(ATTR_HEADER_LEN..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// A number in host byte order at an offset, if it is all there.
pub(in crate::net) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(two.try_into().ok()?))
}

/// A name without its NUL. `None` if it is not UTF-8, which no device of a sane router is.
pub(in crate::net) fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    Some(std::str::from_utf8(value.get(..end)?).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut builder = Builder::new(24, 5, 7, &[1, 2, 3, 4]);
        builder.name(3, "eth1");
        builder.u32(15, 900);
        let first = builder.finish();
        let second = Builder::new(3, 0, 8, &[]).finish();
        let datagram = [first, second].concat();
        let all: Vec<_> = messages(&datagram).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].flags, all[0].sequence), (24, 5, 7));
        let found: Vec<_> = attrs(&all[0].payload[4..]).collect();
        assert_eq!(found[0], (3, &b"eth1\0"[..]));
        assert_eq!(text(found[0].1).as_deref(), Some("eth1"));
        assert_eq!(found[1], (15, &900u32.to_ne_bytes()[..]));
        assert_eq!((all[1].kind, all[1].payload.len()), (3, 0));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_nor_loop(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attrs(&bytes).count() <= bytes.len());
        }
    }
}
