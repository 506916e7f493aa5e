//! Probes by connections: TCP, TLS to relays, HTTP targets, the challenge, the control server.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::config::Url;
use crate::core::{By, Finding};
use crate::net::http::{FetchError, Request, Response};
use crate::net::worker::fetch;
use crate::tailscale::types::DerpNode;

use super::super::targets::DERP_WITHOUT_MAP;
use super::judge::{
    challenge_word, challenged, genuine, invented_beside, is_mute, is_portal, public_address,
    tell_tls,
};
use super::{answer, failed, Prober, Round};

/// A body that says more than an address or a challenge is not the one asked for.
const BODY_LIMIT: u64 = 4 * 1024;

impl Prober {
    pub(super) async fn tcp(&self, round: &Round, to: SocketAddr, tell: &dyn Fn(Finding)) {
        let target = format!("TCP {to}");
        tell(match self.connect(round, to).await {
            Ok(rtt) => answer(By::Tcp, target, rtt, None),
            Err(e) => failed(By::Tcp, target, e.to_string()),
        });
    }

    pub(super) async fn tcp_by_name(
        &self,
        round: &Round,
        name: &str,
        port: u16,
        tell: &dyn Fn(Finding),
    ) {
        match self.lookup(round, name).await {
            Ok(ip) => self.tcp(round, SocketAddr::new(ip, port), tell).await,
            Err(why) => tell(failed(By::Tcp, format!("TCP {name}:{port}"), why)),
        }
    }

    /// TLS to a DERP node, with its certificate checked the way tailscale does.
    pub(super) async fn derp(
        &self,
        round: &Round,
        node: &DerpNode,
        ip: IpAddr,
        tell: &dyn Fn(Finding),
    ) {
        let target = format!("DERP {}", node.hostname);
        let to = SocketAddr::new(ip, node.derp_port);
        match self.connect(round, to).await {
            Ok(_) => {}
            Err(e) => return tell(failed(By::Derp, target, e.to_string())),
        }
        let url = format!(
            "https://{}:{}/derp/probe",
            bracketed(&node.hostname),
            node.derp_port
        );
        let mut request = self.request(round, url, vec![ip]);
        request.certificate = node.cert_check();
        let by = match node.insecure_for_tests {
            // With an unchecked certificate TLS proves no more than a connection does.
            true => By::Tcp,
            false => By::Derp,
        };
        self.https(request, by, target, tell).await;
    }

    pub(super) async fn derp_by_name(&self, round: &Round, tell: &dyn Fn(Finding)) {
        let target = format!("DERP {DERP_WITHOUT_MAP}");
        match self.lookup(round, DERP_WITHOUT_MAP).await {
            Ok(ip) => {
                if let Err(e) = self.connect(round, SocketAddr::new(ip, 443)).await {
                    return tell(failed(By::Derp, target, e.to_string()));
                }
                let url = format!("https://{DERP_WITHOUT_MAP}/derp/probe");
                let request = self.request(round, url, vec![ip]);
                self.https(request, By::Derp, target, tell).await;
            }
            Err(why) => tell(failed(By::Derp, target, why)),
        }
    }

    /// Any HTTP answer over checked TLS proves the outside, whatever its status.
    async fn https(&self, request: Box<Request>, by: By, target: String, tell: &dyn Fn(Finding)) {
        let began = Instant::now();
        tell(match self.talk(request, &target, tell).await {
            Ok(_) => answer(by, target, began.elapsed(), None),
            Err(FetchError::Tls(fault)) if is_portal(&fault) => Finding::Intercepted {
                target,
                what: fault.to_string(),
            },
            Err(e) => failed(by, target, e.to_string()),
        });
    }

    /// Plain HTTP to a configured target: it must have what it is asked for, and refuse what nobody
    /// can have. A portal that answers or redirects whatever is asked gives itself away.
    async fn http(
        &self,
        round: &Round,
        request: Box<Request>,
        target: String,
        tell: &dyn Fn(Finding),
    ) {
        let mut invented = request.clone();
        invented.url = invented_beside(&request.url, &challenge_word(&round.seed));
        let began = Instant::now();
        let told = match self.talk(request, &target, tell).await {
            Ok(r) => r.status,
            Err(e) => return tell(failed(By::Http, target, e.to_string())),
        };
        let rtt = began.elapsed();
        let refused = match self.talk(invented, &target, tell).await {
            Ok(r) => r.status,
            Err(e) => return tell(failed(By::Http, target, e.to_string())),
        };
        tell(match genuine(told, refused) {
            Ok(()) => answer(By::Http, target, rtt, None),
            Err(why) => failed(By::Http, target, why),
        });
    }

    /// `generate_204` with a challenge that only the node itself answers rightly
    /// (derper, serveNoContent). Silence is unknown, not portal.
    pub(super) async fn challenge(
        &self,
        round: &Round,
        node: &DerpNode,
        ip: IpAddr,
        tell: &dyn Fn(Finding),
    ) {
        let target = format!("generate_204 of {}", node.hostname);
        if let Err(e) = self.connect(round, SocketAddr::new(ip, 80)).await {
            return tell(failed(By::Challenge, target, e.to_string()));
        }
        let challenge = challenge_word(&round.seed);
        let url = format!("http://{}/generate_204", bracketed(&node.hostname));
        let mut request = self.request(round, url, vec![ip]);
        request
            .headers
            .push(("X-Tailscale-Challenge".into(), challenge.clone()));
        let began = Instant::now();
        tell(match self.talk(request, &target, tell).await {
            Ok(r) => match challenged(&r, &challenge) {
                Ok(()) => answer(By::Challenge, target, began.elapsed(), None),
                Err(what) => Finding::Intercepted { target, what },
            },
            Err(e) => failed(By::Challenge, target, e.to_string()),
        });
    }

    pub(super) async fn web(&self, round: &Round, url: &Url, tell: &dyn Fn(Finding)) {
        let target = url.to_string();
        let ip = match self.open(round, url).await {
            Ok(ip) => ip,
            Err(why) => return tell(failed(by_scheme(url), target, why)),
        };
        let request = self.request(round, target.clone(), vec![ip]);
        match url.tls {
            true => self.https(request, By::Https, target, tell).await,
            false => self.http(round, request, target, tell).await,
        }
    }

    /// Whether the control server answers; `proves`: that is told of the way too.
    pub(super) async fn control(
        &self,
        round: &Round,
        url: &Url,
        addresses: Vec<IpAddr>,
        proves: bool,
        tell: &dyn Fn(Finding),
    ) {
        let mut last = "no address".to_string();
        for ip in addresses.iter().take(2) {
            match self.connect(round, SocketAddr::new(*ip, url.port)).await {
                Ok(_) => {
                    // The key that tailscaled itself asks for first (control/ts2021).
                    let mut to = url.clone();
                    to.path = "/key?v=142".into();
                    let mut request = self.request(round, to.to_string(), vec![*ip]);
                    request.body_limit = 64 * 1024;
                    let began = Instant::now();
                    let result = self.fetch(request).await;
                    if url.tls {
                        tell_tls(&result, &url.to_string(), tell);
                        if result.is_ok() && proves {
                            // Whatever its status, as in `https`.
                            let target = "the control server".into();
                            tell(answer(By::Control, target, began.elapsed(), None));
                        }
                    }
                    match result {
                        Ok(r) if r.status < 500 => return tell(Finding::Control(Ok(()))),
                        Ok(r) => last = format!("HTTP {}", r.status),
                        // Without the worker's program the connection is all there is to go by,
                        // and without the control server's word nothing would be renewed.
                        Err(FetchError::NotInstalled) => return tell(Finding::Control(Ok(()))),
                        Err(e) => last = e.to_string(),
                    }
                }
                Err(e) => last = e.to_string(),
            }
        }
        tell(Finding::Control(Err(last)));
    }

    pub(super) async fn external(&self, round: &Round, url: &Url, tell: &dyn Fn(Finding)) {
        let (target, by) = (url.to_string(), by_scheme(url));
        let ip = match self.open(round, url).await {
            Ok(ip) => ip,
            Err(why) => return tell(failed(by, target, why)),
        };
        let began = Instant::now();
        let request = self.request(round, target.clone(), vec![ip]);
        tell(match self.talk(request, &target, tell).await {
            Ok(r) => match public_address(&r.text()) {
                Some(ip) => answer(by, target, began.elapsed(), Some(ip)),
                None => Finding::Intercepted {
                    target,
                    what: format!("HTTP {} without an address", r.status),
                },
            },
            Err(FetchError::Tls(fault)) if is_portal(&fault) => Finding::Intercepted {
                target,
                what: fault.to_string(),
            },
            Err(e) => failed(by, target, e.to_string()),
        });
    }

    fn request(&self, round: &Round, url: String, addresses: Vec<IpAddr>) -> Box<Request> {
        let mut request = Box::new(Request::get(url));
        request.egress = round.egress.clone();
        request.addresses = addresses;
        request.timeout = self.manner.tls.max(self.manner.http);
        request.body_limit = BODY_LIMIT;
        request.ca_file.clone_from(&self.manner.ca_file);
        request
    }

    /// A request on a connection that is known to open, with word of how far the talk came.
    async fn talk(
        &self,
        request: Box<Request>,
        target: &str,
        tell: &dyn Fn(Finding),
    ) -> Result<Response, FetchError> {
        let tls = request.url.starts_with("https:");
        tell(Finding::Opened);
        let result = self.fetch(request).await;
        if !is_mute(&result, tls) {
            tell(Finding::Talked);
        }
        if tls {
            tell_tls(&result, target, tell);
        }
        result
    }

    async fn fetch(&self, request: Box<Request>) -> Result<Response, FetchError> {
        let _place = self.threads.acquire().await;
        fetch(request).await
    }
}

fn by_scheme(url: &Url) -> By {
    match url.tls {
        true => By::Https,
        false => By::Http,
    }
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_string(),
    }
}
