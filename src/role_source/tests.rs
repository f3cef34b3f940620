use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::model::clock::{ManualClock, Timestamp};
use crate::model::role_source::TargetTemplate;

const MEMBER: &str = r#"[{"resource":"event","id":"7","level":"member"}]"#;

/// A source in this process. Its answers can be changed, and held back.
#[derive(Default)]
struct Service {
    body: Mutex<String>,
    status: AtomicUsize,
    asked: Mutex<Vec<String>>,
    hold: AtomicUsize,
    release: Notify,
}

impl Service {
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn says(&self, status: usize, body: &str) {
        self.status.store(status, Ordering::SeqCst);
        body.clone_into(&mut self.body.lock().unwrap());
    }
}

struct Scene {
    service: Arc<Service>,
    sources: Arc<RoleSources>,
    clock: Arc<ManualClock>,
    event: Name,
    anna: UserId,
}

async fn scene(target: &str) -> Scene {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(Service::default());
    service.says(200, MEMBER);
    let serving = Arc::clone(&service);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let service = Arc::clone(&serving);
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let count = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..count]).into_owned();
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = service.body.lock().unwrap().clone();
                let status = service.status.load(Ordering::SeqCst);
                service.asked.lock().unwrap().push(target);
                if 0 < service.hold.load(Ordering::SeqCst) {
                    service.release.notified().await;
                }
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let event = Name::parse("event").unwrap();
    let settings = RoleSource {
        resources: vec![event.clone()],
        addresses: vec![address],
        authority: address.to_string(),
        target: TargetTemplate::parse(target).unwrap(),
        ttl: Duration::from_mins(1),
        stale_max: Duration::from_mins(5),
    };
    let levels = ["public", "member", "manager"].map(|text| Name::parse(text).unwrap());
    let ladder = LevelOrder::new(levels.to_vec()).unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let as_clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let sources = RoleSources::new(&[settings], &ladder, 1000, as_clock, Arc::default());
    Scene {
        service,
        sources: Arc::new(sources),
        clock,
        event,
        anna: UserId::parse("u-anna0000").unwrap(),
    }
}

impl Scene {
    async fn read(&self, id: Option<&str>, reading: CacheUse) -> Result<usize, SourceDown> {
        let roles = self
            .sources
            .roles(&self.anna, &self.event, id, reading)
            .await;
        roles.map(|roles| roles.len())
    }

    async fn cached(&self, id: &str) -> Result<usize, SourceDown> {
        self.read(Some(id), CacheUse::Cached).await
    }

    fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

const PER_ID: &str = "/m?uid={uid}&resource={resource}&id={id}";

#[tokio::test]
async fn an_answer_counts_for_its_life_then_stands_in_then_nothing_does() {
    let scene = scene(PER_ID).await;
    assert_eq!(
        (scene.cached("7").await, scene.cached("7").await),
        (Ok(1), Ok(1))
    );
    assert_eq!(
        *scene.service.asked.lock().unwrap(),
        ["/m?uid=u-anna0000&resource=event&id=7"]
    );
    scene.advance(59);
    assert_eq!((scene.cached("7").await, scene.service.asked()), (Ok(1), 1));
    scene.advance(1);
    scene.service.says(500, MEMBER);
    // The query failed and is not repeated at once.
    assert_eq!(
        (scene.cached("7").await, scene.cached("7").await),
        (Ok(1), Ok(1))
    );
    assert_eq!(scene.service.asked(), 2);
    scene.advance(299);
    assert_eq!((scene.cached("7").await, scene.service.asked()), (Ok(1), 3));
    scene.advance(1);
    assert_eq!(scene.cached("7").await, Err(SourceDown));
    // A question without any answer fails at once, and only that one.
    assert_eq!(scene.cached("8").await, Err(SourceDown));
    scene.service.says(200, "[]");
    assert_eq!(
        scene.cached("8").await,
        Err(SourceDown),
        "it was asked less than a second ago"
    );
    scene.advance(1);
    assert_eq!(
        (scene.cached("7").await, scene.cached("8").await),
        (Ok(0), Ok(0))
    );
}

#[tokio::test]
async fn garbage_and_redirects_are_no_answer() {
    let scene = scene(PER_ID).await;
    let cases = [
        (200, "<html>"),
        (200, ""),
        (200, "{}"),
        (302, MEMBER),
        (404, MEMBER),
        (206, MEMBER),
    ];
    for (index, (status, body)) in cases.into_iter().enumerate() {
        scene.service.says(status, body);
        assert_eq!(
            scene.cached(&index.to_string()).await,
            Err(SourceDown),
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn questions_at_once_share_one_flight() {
    let scene = scene(PER_ID).await;
    scene.service.hold.store(1, Ordering::SeqCst);
    let askers: Vec<_> = (0..100)
        .map(|_| {
            let (sources, event, anna) = (
                Arc::clone(&scene.sources),
                scene.event.clone(),
                scene.anna.clone(),
            );
            tokio::spawn(async move {
                sources
                    .roles(&anna, &event, Some("7"), CacheUse::Cached)
                    .await
                    .map(|it| it.len())
            })
        })
        .collect();
    while scene.service.asked() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    scene.service.release.notify_one();
    for asker in askers {
        assert_eq!(asker.await.unwrap(), Ok(1));
    }
    assert_eq!(scene.service.asked(), 1);
    assert_eq!(scene.sources.flights.count(), 0);
}

#[tokio::test]
async fn one_uid_has_a_share_of_the_places_and_others_have_theirs() {
    let scene = scene(PER_ID).await;
    scene.service.hold.store(1, Ordering::SeqCst);
    let ask = |uid: &str, id: usize| {
        let (sources, event) = (Arc::clone(&scene.sources), scene.event.clone());
        let uid = UserId::parse(uid).unwrap();
        tokio::spawn(async move {
            let id = id.to_string();
            let asked = sources.roles(&uid, &event, Some(&id), CacheUse::Cached);
            asked.await.map(|roles| roles.len())
        })
    };
    let until_asked = async |count| {
        while scene.service.asked() < count {
            tokio::task::yield_now().await;
        }
    };
    let many: Vec<_> = (100..120).map(|id| ask("u-anna0000", id)).collect();
    until_asked(AT_ONCE_OF_UID_MAX).await;
    let of_another = ask("u-bert0000", 7);
    until_asked(AT_ONCE_OF_UID_MAX + 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.service.asked(), AT_ONCE_OF_UID_MAX + 1);
    let last = scene.service.asked.lock().unwrap().last().cloned();
    assert!(last.unwrap().contains("u-bert0000"));
    // All are served in the end.
    scene.service.hold.store(0, Ordering::SeqCst);
    scene.service.release.notify_waiters();
    assert_eq!(of_another.await.unwrap(), Ok(1));
    for one in many {
        assert_eq!(one.await.unwrap(), Ok(0));
    }
    assert_eq!(scene.service.asked(), 21);
}

#[tokio::test]
async fn a_forced_reading_asks_anew_and_older_answers_do_not_come_back() {
    let scene = scene(PER_ID).await;
    scene.service.hold.store(1, Ordering::SeqCst);
    let (sources, event, anna) = (
        Arc::clone(&scene.sources),
        scene.event.clone(),
        scene.anna.clone(),
    );
    let slow = tokio::spawn(async move {
        sources
            .roles(&anna, &event, Some("7"), CacheUse::Cached)
            .await
            .map(|it| it.len())
    });
    while scene.service.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // The membership ends while the first query is in flight.
    scene.service.hold.store(0, Ordering::SeqCst);
    scene.service.says(200, "[]");
    assert_eq!(scene.read(Some("7"), CacheUse::Forced).await, Ok(0));
    scene.service.release.notify_one();
    assert_eq!(slow.await.unwrap(), Ok(1));
    assert_eq!(scene.cached("7").await, Ok(0), "the older answer came back");
    assert_eq!(scene.service.asked(), 2);
    // A forced reading uses no stale answer.
    scene.service.says(500, "");
    assert_eq!(
        scene.read(Some("7"), CacheUse::Forced).await,
        Err(SourceDown)
    );
    assert_eq!(scene.cached("7").await, Ok(0));
    for _ in 0..10 {
        assert_eq!(scene.sources.count_forced("u-anna0000"), Ok(()));
    }
    assert!(scene.sources.count_forced("u-anna0000").is_err());
    assert_eq!(scene.sources.count_forced("u-bert0000"), Ok(()));
}

#[tokio::test]
async fn without_a_place_for_the_id_one_answer_serves_all() {
    let scene = scene("/all/{uid}").await;
    assert_eq!(
        (
            scene.read(None, CacheUse::Cached).await,
            scene.cached("8").await
        ),
        (Ok(1), Ok(1))
    );
    assert_eq!(scene.service.asked(), 1);
    assert_eq!(
        scene
            .sources
            .last(&scene.anna, &scene.event, "9")
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn what_cannot_be_asked_has_no_roles() {
    let scene = scene(PER_ID).await;
    let list = Name::parse("list").unwrap();
    for id in [
        None,
        Some(".."),
        Some("."),
        Some("a/b"),
        Some("a%2Fb"),
        Some(""),
    ] {
        assert_eq!(scene.read(id, CacheUse::Cached).await, Ok(0), "{id:?}");
    }
    let other = scene
        .sources
        .roles(&scene.anna, &list, Some("7"), CacheUse::Cached)
        .await;
    assert!(other.unwrap().is_empty());
    assert_eq!(scene.service.asked(), 0);
    assert!(scene.sources.last(&scene.anna, &scene.event, "7").is_none());
}
