//! The messages against what a real kernel sent (tests/recordings/sock-diag), and against this one.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;

#[test]
fn this_kernel_tells_of_data_and_not_of_the_handshake() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(host).expect("a loopback listener");
        let remote = listener.local_addr().expect("its address");
        let client = TcpStream::connect(remote).expect("connected");
        let local = client.local_addr().expect("its address");
        let (mut peer, _) = listener.accept().expect("the other end");
        let mut diag = SockDiag::open().expect("every Linux has the socket");
        let mut ask = || diag.last_data(local, remote);
        match ask() {
            Err(e) if e.is_missing() => return eprintln!("this kernel has no tcp_diag"),
            told => assert_eq!(told.expect("an answer"), None),
        }
        peer.write_all(b"data").expect("sent");
        // The other end of the loopback has it when the call returns.
        let ago = ask().expect("an answer").expect("data had come");
        assert!(ago < Duration::from_secs(60), "{ago:?}");
        drop((client, peer, listener));
        let gone = ask().map_or_else(|e| e.is_missing(), |told| told.is_none());
        assert!(gone, "a closed connection");
    }
}

/// Netlink's numbers are in host byte order, and those of the recordings little-endian.
#[cfg(target_endian = "little")]
mod recorded {
    use proptest::prelude::*;

    use super::*;
    use crate::net::netlink::{messages, Builder, NLMSG_ERROR, NLM_F_REQUEST};

    macro_rules! recording {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/recordings/sock-diag/", $name))
        };
    }

    const DATA: &[u8] = recording!("v4-data.bin");

    fn payload(datagram: &[u8]) -> &[u8] {
        messages(datagram).next().expect("a message").payload
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_request_is_the_one_that_the_kernel_answered() {
        let header = request(address("[::1]:44002"), address("[::1]:44302"));
        let built = Builder::new(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 7, &header).finish();
        assert_eq!(built, recording!("v6-request.bin"));
    }

    #[test]
    fn only_data_on_a_connection_counts() {
        let ago = last_data(payload(DATA)).expect("100 bytes had come");
        let (least, most) = (Duration::from_millis(300), Duration::from_millis(350));
        assert!((least..most).contains(&ago), "{ago:?}");
        assert_eq!(last_data(payload(recording!("v6-acks-only.bin"))), None);
        assert_eq!(last_data(payload(recording!("listener.bin"))), None);
        let missing = messages(recording!("missing.bin")).next();
        assert_eq!(missing.expect("a message").kind, NLMSG_ERROR);
    }

    #[test]
    fn a_cut_answer_tells_nothing_or_the_same() {
        let whole = payload(DATA);
        for length in 0..whole.len() {
            let told = last_data(&whole[..length]);
            assert!(told.is_none() || told == last_data(whole), "{length} bytes");
        }
        // An older kernel, whose tcp_info ends before it counts what it has received.
        assert_eq!(last_data(&whole[..MESSAGE_LEN + BYTES_RECEIVED]), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), at in 0..392usize, byte: u8) {
            let _ = last_data(&bytes);
            let mut bent = payload(DATA).to_vec();
            if let Some(b) = bent.get_mut(at) {
                *b = byte;
            }
            let _ = last_data(&bent);
        }
    }
}
