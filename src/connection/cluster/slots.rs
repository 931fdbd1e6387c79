//! Which node serves which slots, as `CLUSTER SLOTS` says it.

use super::redirect::address;
use crate::connection::config::Address;
use crate::connection::nat_map::NatMap;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SLOTS;

/// A range of slots and its nodes.
#[derive(Debug, PartialEq, Eq)]
pub struct Range {
    /// First slot.
    pub first: u16,
    /// Last slot.
    pub last: u16,
    /// The node that takes writes.
    pub master: Address,
    /// Its replicas.
    pub replicas: Vec<Address>,
}

impl Range {
    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.master).chain(&self.replicas)
    }

    /// The same with its nodes where they are reached from here. Replicas of which nobody knows that are left out.
    pub fn reached(self, nat_map: &NatMap) -> Result<Self> {
        let replicas = self.replicas.into_iter().filter_map(|replica| nat_map.reached(replica).ok());
        Ok(Self { master: nat_map.reached(self.master)?, replicas: replicas.collect(), ..self })
    }
}

/// The ranges in a reply of the node that was reached at `host`. What cannot be used is left out: its slots count as
/// not served.
pub fn ranges(reply: Reply, host: &str) -> Result<Vec<Range>> {
    let ranges = reply.into_list()?;
    if ranges.len() > SLOTS {
        return Err(Error::new(ErrorKind::Server, "CLUSTER SLOTS answered more ranges than there are slots"));
    }
    Ok(ranges.into_iter().filter_map(|range| read_range(range, host)).collect())
}

fn read_range(range: Reply, host: &str) -> Option<Range> {
    let mut fields = range.into_list().ok()?.into_iter();
    let mut slot = || u16::try_from(fields.next()?.into_int().ok()?).ok();
    let (first, last) = (slot()?, slot()?);
    let mut nodes = fields.map(|node| read_node(node, host));
    let master = nodes.next()??;
    let replicas = nodes.flatten().collect();
    (first <= last && usize::from(last) < SLOTS).then_some(Range { first, last, master, replicas })
}

/// Without a host, a node is where the node is that was asked; `?` means that nobody knows where it is.
fn read_node(node: Reply, asked: &str) -> Option<Address> {
    let mut fields = node.into_list().ok()?.into_iter();
    let host = String::from_utf8(fields.next()?.into_bytes().ok()?.unwrap_or_default()).ok()?;
    let port = u16::try_from(fields.next()?.into_int().ok()?).ok()?;
    address(if host.is_empty() { asked } else { &host }, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(resp: &str) -> Result<Vec<Range>> {
        let value = redis::parse_redis_value(resp.as_bytes()).unwrap();
        ranges(crate::connection::reply::from_value(value).unwrap(), "asked")
    }

    #[test]
    fn a_table_is_read() {
        let replies = "*2\r\n\
            *4\r\n:0\r\n:5460\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nid\r\n*4\r\n$1\r\nh\r\n:7003\r\n$2\r\nid\r\n*0\r\n\
            *3\r\n:5461\r\n:16383\r\n*2\r\n$-1\r\n:7001\r\n";
        let at = |host: &str, port| Address { host: host.to_owned(), port };
        assert_eq!(
            parse(replies).unwrap(),
            [
                Range { first: 0, last: 5460, master: at("127.0.0.1", 7000), replicas: vec![at("h", 7003)] },
                Range { first: 5461, last: 16383, master: at("asked", 7001), replicas: vec![] },
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for range in [
            ":1\r\n",
            "*0\r\n",
            "*2\r\n:0\r\n:1\r\n",
            "*3\r\n:5\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
            "*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
            "*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n",
            "*3\r\n:0\r\n:1\r\n*2\r\n$1\r\n?\r\n:1\r\n",
            "*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:0\r\n",
            "*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:65536\r\n",
            "*3\r\n:0\r\n:1\r\n*1\r\n$1\r\nh\r\n",
        ] {
            assert_eq!(parse(&format!("*1\r\n{range}")).unwrap(), [], "{range}");
        }
        assert!(parse("+OK\r\n").is_err());
    }
}
