//! Bursts of the real prober over one uplink, judged as the daemon judges them: `bursts DEVICE COUNT`
//! prints how often each verdict came, as JSON. The lab runs it on a line that loses packets.
//!
//! It asks those whom the daemon would ask, by /etc/config/tailover and tailscaled's DERP map.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::channel::{self, Sender};
use smol::Timer;
use tailover::config::{self, Settings};
use tailover::core::{Effort, Family, Judgement, Verdict};
use tailover::net::worker;
use tailover::tailscale::localapi::LocalApi;
use tailover::watch::probe::{by_uplink, Manner, Prober, Resolvers, Round};
use tailover::watch::targets::Targets;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let device = words.next().ok_or("which device?")?;
    let count: u32 = words.next().ok_or("how many bursts?")?.parse()?;
    let (settings, _) = config::load(Path::new("/etc/config/tailover"))?;
    let targets = Rc::new(RefCell::new(Targets::new(&settings)));
    let executor = smol::LocalExecutor::new();
    let parent = worker::use_process(worker::Program::installed());
    executor.spawn(parent.run()).detach();
    let counts = smol::block_on(executor.run(async {
        let api = LocalApi {
            socket: settings.socket.clone(),
            timeout: Duration::from_secs(5),
        };
        if let Ok(Some(map)) = api.derpmap().await {
            targets.borrow_mut().derp = map.nodes;
        }
        let prober = Prober::new(Rc::clone(&targets), Manner::new(&settings));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..count {
            let verdict = burst(&prober, &settings, &device).await;
            *counts.entry(verdict.to_string()).or_default() += 1;
        }
        counts
    }));
    println!("{}", serde_json::to_string(&serde_json::json!(counts))?);
    Ok(())
}

/// The verdict of one burst, which is left as soon as it is known.
async fn burst(prober: &Prober, settings: &Settings, device: &str) -> Verdict {
    let round = Round {
        egress: by_uplink(device, settings.mark.value | settings.mmx_mask),
        family: Family::V4,
        effort: Effort::Burst,
        control: true,
        external: false,
        resolvers: Resolvers::Nobody,
        seed: std::array::from_fn(|_| fastrand::u8(..)),
        sent: Rc::default(),
    };
    let judgement = RefCell::new(Judgement::default());
    let (known, verdict) = channel::bounded(1);
    let began = Instant::now();
    judgement
        .borrow_mut()
        .begin(1, settings.probe_timeout, Effort::Burst);
    let asked = prober.run(round, |finding| {
        judgement.borrow_mut().take(began.elapsed(), 1, finding);
        tell(&known, judgement.borrow().verdict);
    });
    let waited = async {
        // Either: an early verdict, or the time is over.
        smol::future::or(async { verdict.recv().await.is_ok() }, async {
            Timer::at(began + settings.probe_timeout).await;
            false
        })
        .await;
    };
    smol::future::or(asked, waited).await;
    judgement.borrow_mut().expire(settings.probe_timeout);
    let verdict = judgement.borrow().verdict;
    verdict
}

fn tell(known: &Sender<()>, verdict: Verdict) {
    if verdict != Verdict::Unknown {
        // One word is enough.
        let _ = known.try_send(());
    }
}
