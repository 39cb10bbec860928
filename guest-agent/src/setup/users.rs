//! Who a process runs as, by the container's own `/etc/passwd` and `/etc/group`.
//!
//! Both are the container's to write: they are read up to a bound, and a line that makes no sense is passed over.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use super::Result;
use super::job::User;
use crate::process::handshake::Failure;

/// More than this of a file is not read.
const LONGEST_FILE: u64 = 1 << 20;

/// Numbers, all of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Where the user lives, if `/etc/passwd` says so.
    pub home: Option<String>,
}

/// Turns a spec's user into numbers. Call it inside the container.
pub fn resolve(user: &User) -> Result<Identity> {
    let database = Database { passwd: read("/etc/passwd"), group: read("/etc/group") };
    match user {
        User::Ids { uid, gid, additional_gids, umask } => Ok(Identity {
            uid: *uid,
            gid: *gid,
            groups: additional_gids.clone(),
            umask: *umask,
            home: database.account_by_uid(*uid).map(|account| account.home.to_owned()),
        }),
        User::Lookup { name, additional_gids, umask } => database.look_up(name, additional_gids, *umask),
    }
}

/// The text of a file, or of what the container put in its place, as far as it can be read at once.
fn read(path: &str) -> String {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let mut bytes = Vec::new();
    if let Ok(file) = file {
        // Whatever was read before an error is good.
        let _ = file.take(LONGEST_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Database {
    passwd: String,
    group: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Database {
    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
            Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
        })
    }

    fn account_by_uid(&self, uid: u32) -> Option<Account<'_>> {
        self.accounts().find(|account| account.uid == uid)
    }

    /// Name, number and members of each group.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, gid.parse().ok()?, fields.next().unwrap_or("")))
        })
    }

    /// `user[:group]`, each by name or number. A number need not be listed; a name must be.
    fn look_up(&self, name: &str, additional: &[u32], umask: Option<u32>) -> Result<Identity> {
        let (user, group) = match name.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (name, None),
        };
        let unknown =
            |what: &str, name: &str| Failure::new(format!("find the {what} {name:?}"), "no such entry");
        let account = match user.parse() {
            Ok(uid) => self.account_by_uid(uid),
            Err(_) => self.accounts().find(|account| account.name == user),
        };
        let uid = match (&account, user.parse()) {
            (Some(account), _) => account.uid,
            (None, Ok(uid)) => uid,
            (None, Err(_)) if user.is_empty() => 0,
            (None, Err(_)) => return Err(unknown("user", user)),
        };
        let gid = match group {
            Some(group) => self
                .groups()
                .find(|(name, ..)| *name == group)
                .map(|(_, gid, _)| gid)
                .or_else(|| group.parse().ok())
                .ok_or_else(|| unknown("group", group))?,
            None => account.as_ref().map_or(0, |account| account.gid),
        };
        let mut groups = additional.to_vec();
        if let Some(account) = account.as_ref().filter(|_| group.is_none()) {
            let is_member = |members: &str| members.split(',').any(|member| member == account.name);
            groups.extend(self.groups().filter(|(.., members)| is_member(members)).map(|(_, gid, _)| gid));
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Identity { uid, gid, groups, umask, home: account.map(|account| account.home.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n".into(),
            group: "root:x:0:\nusers:x:1001:\naudio:x:29:bob,ann\nvideo:x:44:ann\n".into(),
        }
    }

    fn ids(name: &str) -> (u32, u32, Vec<u32>) {
        let identity = database().look_up(name, &[], None).unwrap();
        (identity.uid, identity.gid, identity.groups)
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        assert_eq!(ids("ann"), (1000, 1001, vec![29, 44]));
        assert_eq!(database().look_up("ann", &[], None).unwrap().home.as_deref(), Some("/home/ann"));
    }

    #[test]
    fn a_group_that_is_given_replaces_the_listed_ones() {
        assert_eq!(ids("ann:video"), (1000, 44, vec![]));
        assert_eq!(ids("ann:5"), (1000, 5, vec![]));
    }

    #[test]
    fn a_number_needs_no_entry_and_uses_one() {
        assert_eq!(ids("4242"), (4242, 0, vec![]));
        assert_eq!(ids("1000"), (1000, 1001, vec![29, 44]));
        assert_eq!(ids("4242:4243"), (4242, 4243, vec![]));
    }

    #[test]
    fn an_unknown_name_is_named() {
        let failure = database().look_up("eve", &[], None).unwrap_err();
        assert_eq!(failure.to_string(), "failed to find the user \"eve\": no such entry");
        assert!(database().look_up("ann:nogroup", &[], None).is_err());
    }
}
