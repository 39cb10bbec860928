//! The command against a keeper that runs processes instead of sandboxes.

mod containers;
mod fake;
mod interrupted;
mod run;
mod signals;
mod slow_reader;
mod terminal;
