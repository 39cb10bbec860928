//! Pulls, from a registry that behaves and from ones that do not.

#[path = "support/fake_registry.rs"]
mod fake_registry;
mod support;

use std::fs;
use std::sync::Mutex;

use fake_registry::{FakeRegistry, Manners};
use support::build::{self, Blobs, Compression, Layer};
use support::{erofs_reader, files_below, story};
use theca_image::source::architecture;
use theca_image::{
    Credentials, Digest, Image, Limits, Progress, PullOptions, Reference, Silent, Step, Store, StoreError,
};

const REPOSITORY: &str = "team/app";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
    registry: FakeRegistry,
    blobs: Blobs,
    runtime: tokio::runtime::Runtime,
    options: PullOptions,
}

impl Fixture {
    /// A registry with an image of two layers under `team/app:1`.
    fn new(manners: Manners) -> Self {
        let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let layers = [Layer::new().file("lower", &noise).tar(), Layer::new().file("upper", b"x").tar()];
        Self::with_blobs(manners, build::blobs(&layers, Compression::Gzip))
    }

    fn with_blobs(manners: Manners, blobs: Blobs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("root")).unwrap();
        let registry = FakeRegistry::start(manners);
        for (digest, bytes) in &blobs.all {
            registry.put_blob(REPOSITORY, digest, bytes.clone());
        }
        let manifest = blobs.all.last().unwrap().1.clone();
        for name in ["1".to_owned(), blobs.manifest.to_string()] {
            registry.put_manifest(REPOSITORY, &name, MANIFEST, manifest.clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, store, registry, blobs, runtime, options: PullOptions::default() }
    }

    fn name(&self, rest: &str) -> Reference {
        format!("{}/{REPOSITORY}{rest}", self.registry.address).parse().unwrap()
    }

    fn pull_with(&self, rest: &str, progress: &dyn Progress) -> Result<Image, StoreError> {
        self.runtime.block_on(self.store.pull(&self.name(rest), &self.options, progress))
    }

    fn pull(&self, rest: &str) -> Result<Image, StoreError> {
        self.pull_with(rest, &Silent)
    }

    /// The words of a pull that fails and leaves nothing.
    fn refusal(&self) -> String {
        let words = story(&self.pull(":1").unwrap_err());
        let left: Vec<String> = files_below(&self.folder.path().join("root/images"))
            .into_iter()
            .filter(|name| name != "lock")
            .collect();
        assert_eq!(left, ["blobs", "erofs", "tmp"], "left behind after: {words}");
        words
    }
}

fn assert_holds_both_layers(image: &Image) {
    let files = erofs_reader::read(&image.erofs);
    assert_eq!((files["lower"].data.len(), &files["upper"].data[..]), (100_000, &b"x"[..]));
}

#[test]
fn an_image_by_tag() {
    let fixture = Fixture::new(Manners::default());
    let image = fixture.pull(":1").unwrap();
    assert_holds_both_layers(&image);
    assert_eq!(image.names, [fixture.name(":1")]);
    assert_eq!(image.manifest, Some(fixture.blobs.manifest));
    let by_digest = fixture.name(&format!("@{}", fixture.blobs.manifest)).to_string();
    assert_eq!(fixture.store.resolve(&by_digest).unwrap().id, image.id);
}

#[test]
fn an_image_by_digest_has_no_tag() {
    let fixture = Fixture::new(Manners::default());
    let image = fixture.pull(&format!("@{}", fixture.blobs.manifest)).unwrap();
    assert!(image.names.is_empty());
    assert_eq!(image.digests.len(), 1);
}

#[test]
fn the_image_for_this_machine_from_an_index() {
    let fixture = Fixture::new(Manners::default());
    let entry = |digest: &Digest, architecture: &str| {
        serde_json::json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": 1,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let entries = [entry(&Digest::of(b"other"), "riscv64"), entry(&fixture.blobs.manifest, architecture())];
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = Digest::of(index.as_bytes());
    fixture.registry.put_manifest(REPOSITORY, "all", INDEX, index.into_bytes());
    let image = fixture.pull(":all").unwrap();
    assert_holds_both_layers(&image);
    assert_eq!(image.manifest, Some(fixture.blobs.manifest));
    let by_index = fixture.name(&format!("@{digest}")).to_string();
    assert_eq!(fixture.store.resolve(&by_index).unwrap().id, image.id);
}

#[test]
fn layers_that_are_there_are_not_fetched_again() {
    let fixture = Fixture::new(Manners::default());
    fixture.pull(":1").unwrap();
    assert_eq!(fixture.registry.blob_requests().len(), 3);
    fixture.pull(":1").unwrap();
    assert_eq!(fixture.registry.blob_requests().len(), 4, "only the configuration");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    for (part, status) in [
        ("/token", "200 OK"),
        ("/token", "401 Unauthorized"),
        ("/manifests/", "200 OK"),
        ("/manifests/", "500 Internal Server Error"),
        ("/blobs/", "404 Not Found"),
    ] {
        let token_for = (part == "/token").then(String::new);
        let fixture = Fixture::new(Manners { floods: Some((part, status)), token_for, ..Manners::default() });
        let words = fixture.refusal();
        assert!(
            words.contains("sent more than 512 MiB where a short document belongs"),
            "{part} {status}: {words}"
        );
    }
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    for ignores_ranges in [false, true] {
        let fixture = Fixture::new(Manners { breaks: 2, ignores_ranges, ..Manners::default() });
        assert_holds_both_layers(&fixture.pull(":1").unwrap());
    }
}

#[test]
fn a_download_that_always_breaks_off_fails() {
    let fixture = Fixture::new(Manners { breaks: 100, ignores_ranges: true, ..Manners::default() });
    let words = fixture.refusal();
    assert!(words.contains("failed to get blob sha256:"), "{words}");
}

#[test]
fn other_bytes_than_promised_are_refused() {
    let manifest_of = Fixture::new(Manners::default()).blobs;
    // The configuration, then a layer.
    for index in [0, 1] {
        let fixture = Fixture::new(Manners { lies: Some(manifest_of.all[index].0), ..Manners::default() });
        let words = fixture.refusal();
        assert!(words.contains("sent a blob with digest sha256:"), "{words}");
    }
}

#[test]
fn a_manifest_that_announces_too_much_is_refused_before_the_download() {
    let mut fixture = Fixture::new(Manners::default());
    fixture.options.limits = Limits { unpacked_bytes: 1000, ..Limits::default() };
    let words = fixture.refusal();
    assert!(words.contains("larger than the limit of 1000"), "{words}");
    assert_eq!(fixture.registry.blob_requests().len(), 1, "only the configuration");
}

#[test]
fn what_is_not_there_is_said() {
    let fixture = Fixture::new(Manners::default());
    let words = story(&fixture.pull(":none").unwrap_err());
    assert!(words.contains("failed to get the manifest of") && words.contains("manifest unknown"), "{words}");
}

#[test]
fn a_registry_that_is_not_there_is_said() {
    let fixture = Fixture::new(Manners::default());
    let name: Reference = "127.0.0.1:1/team/app".parse().unwrap();
    let pulled = fixture.runtime.block_on(fixture.store.pull(&name, &fixture.options, &Silent));
    let words = story(&pulled.unwrap_err());
    assert!(words.contains("failed to log in to registry 127.0.0.1:1"), "{words}");
    assert!(words.contains("refused"), "{words}");
}

#[test]
fn plain_http_is_not_spoken_where_certificates_are_wanted() {
    let mut fixture = Fixture::new(Manners::default());
    fixture.options.tls_verify = Some(true);
    assert!(fixture.refusal().contains("failed to log in"));
}

#[test]
fn a_token_is_got_with_the_credentials_of_the_file() {
    // user:secret
    let user = "dXNlcjpzZWNyZXQ=".to_owned();
    let mut fixture = Fixture::new(Manners { token_for: Some(user.clone()), ..Manners::default() });
    assert!(fixture.refusal().contains("`docker login 127.0.0.1:"));
    let file = fixture.folder.path().join("config.json");
    let auths = serde_json::json!({"auths": {fixture.registry.address.to_string(): {"auth": user}}});
    fs::write(&file, auths.to_string()).unwrap();
    fixture.options.auth_file = Some(file);
    assert_holds_both_layers(&fixture.pull(":1").unwrap());
}

#[test]
fn basic_credentials_as_given() {
    let mut fixture = Fixture::new(Manners { basic: Some("dXNlcjpzZWNyZXQ=".into()), ..Manners::default() });
    let words = fixture.refusal();
    assert!(words.contains("without a login") && words.contains("--creds USER:PASSWORD"), "{words}");
    fixture.options.credentials = Some(Credentials { user: "user".into(), password: "guess".into() });
    let words = fixture.refusal();
    assert!(words.contains("team/app:1 to user \"user\" (as given)"), "{words}");
    fixture.options.credentials = Some(Credentials { user: "user".into(), password: "secret".into() });
    assert_holds_both_layers(&fixture.pull(":1").unwrap());
}

/// Stops the download when it has begun.
#[derive(Default)]
struct Impatient(Mutex<Vec<Step>>);

impl Progress for Impatient {
    fn advanced(&self, step: Step, _: u64, total: Option<u64>) {
        assert!(total.is_some());
        self.0.lock().unwrap().push(step);
    }

    fn cancelled(&self) -> bool {
        self.0.lock().unwrap().len() > 1
    }
}

#[test]
fn a_cancelled_pull_leaves_nothing() {
    let fixture = Fixture::new(Manners::default());
    let error = fixture.pull_with(":1", &Impatient::default()).unwrap_err();
    assert_eq!(story(&error), "stopped on request");
    assert!(files_below(&fixture.folder.path().join("root/images/tmp")).is_empty());
}
