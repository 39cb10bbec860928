//! Random stories on real VMs: calls of every interface in any order, against the model that the node's own tests have
//! (`host/controller/src/node/testing/model.rs`; those tell tens of thousands of stories over keepers that are values). After
//! each call that changes something the containers are what the model says, at the end of each story all is so by every
//! interface; then the events made sense and nothing is left.
//!
//! They are the same in every run, so that a change is to blame for what they find. `THECA_MODEL_SEED` tells others: the first story
//! has this seed, each other one that of the one before plus 1. `THECA_MODEL_STORIES` says how many to tell, as far as
//! `THECA_MODEL_SECONDS` suffice.

mod doors;
mod heard;
mod step;
mod story;
mod view;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use doors::Doors;
use story::{CONTAINERS, SANDBOXES, Story};
use theca_controller::node::testing::chance::Chance;
use theca_tests::{IMAGE, Theca, Thecad};

/// Stories, unless time is over before, and steps of each. The sandboxes go on from one to the next, for a boot takes longer
/// than a story.
const STORIES: u64 = 250;
const STEPS: usize = 5;
/// The first story's seed.
const SEED: u64 = 1;
/// No story is begun after so many seconds: a test host in software that shares its processor gets as far as it gets.
const SECONDS: u64 = 900;
/// With fewer, something takes far too long.
const LEAST: u64 = 200;
/// How often is told how far it is.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// One story in so many has steps that end a sandbox.
const STORMY: usize = 25;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Tells whoever waits for a test, at once: what a test prints is shown when it has failed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn no_story_leads_real_machines_and_model_apart() {
    let stories = variable("THECA_MODEL_STORIES").unwrap_or(STORIES);
    let first = variable("THECA_MODEL_SEED").unwrap_or(SEED);
    let time = Duration::from_secs(variable("THECA_MODEL_SECONDS").unwrap_or(SECONDS));
    let theca = Theca::new();
    let disk: PathBuf = {
        let shown = theca.cli(&["image", "inspect", IMAGE]).json();
        shown[0]["Disk"].as_str().unwrap().into()
    };
    let thecad = Thecad::start(&theca);
    let begun = Instant::now();
    let (mut told, mut steps) = (0, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let doors = Doors::open(theca.state(), disk, &SANDBOXES).await;
        for sandbox in SANDBOXES {
            doors.run_sandbox(sandbox, story::MEMORY_MIB).await.unwrap();
        }
        let mut events = doors.events().await;
        let mut seen = Instant::now();
        for seed in first..first + stories {
            if begun.elapsed() > time {
                break;
            }
            if seen.elapsed() > SIGN_OF_LIFE {
                seen = Instant::now();
                say(&format!(
                    "{told} of {stories} stories in {:.1?}; next THECA_MODEL_SEED={seed}",
                    begun.elapsed()
                ));
            }
            let mut chance = Chance(seed);
            let stormy = chance.below(STORMY) == 0;
            let mut story = Story::begin(&doors, &mut events, seed, chance);
            for _ in 0..STEPS {
                story.step(stormy).await;
            }
            steps += story.end().await;
            told += 1;
        }
        doors.forget_records(&CONTAINERS).await;
        for sandbox in SANDBOXES {
            doors.shutdown_sandbox(sandbox).await.unwrap();
        }
    });
    println!(
        "{told} of {stories} stories with {steps} steps in {:.1?}; THECA_MODEL_SEED={first}",
        begun.elapsed()
    );
    assert!(told >= stories.min(LEAST), "only {told} stories in {:.1?}", begun.elapsed());
    thecad.stop();
}
