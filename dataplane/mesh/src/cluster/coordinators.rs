//! Which node coordinates a sector, and which takes over (HIER-03, HIER-08).

/// The posts of all sectors. Nodes are numbers that the caller gives.
#[derive(Clone, Debug)]
pub struct Coordinators {
    posts: Vec<Post>,
}

/// One sector's coordination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Post {
    /// The node that coordinates it; none: the node itself does.
    pub holder: Option<u32>,
    /// The node that takes over.
    pub backup: Option<u32>,
}

impl Coordinators {
    /// That many sectors, each coordinated by the node itself.
    #[must_use]
    pub fn new(sectors: u16) -> Self {
        Self { posts: vec![Post::default(); usize::from(sectors)] }
    }

    /// A sector's post.
    #[must_use]
    pub fn post(&self, sector: u16) -> Option<Post> {
        self.posts.get(usize::from(sector)).copied()
    }

    /// Appoints a node. The first becomes the coordinator, the second its backup. False where the
    /// sector is unknown, has both already, or has this node already.
    pub fn appoint(&mut self, sector: u16, node: u32) -> bool {
        let Some(post) = self.posts.get_mut(usize::from(sector)) else { return false };
        if post.holder == Some(node) || post.backup == Some(node) {
            return false;
        }
        match post {
            Post { holder: holder @ None, .. } => *holder = Some(node),
            Post { backup: backup @ None, .. } => *backup = Some(node),
            _ => return false,
        }
        true
    }

    /// A node is gone: its backups take over. Adds each sector it coordinated to `changed`, with
    /// the node that does now; none where there was no backup.
    pub fn lose(&mut self, node: u32, changed: &mut Vec<(u16, Option<u32>)>) {
        for (sector, post) in self.posts.iter_mut().enumerate() {
            if post.backup == Some(node) {
                post.backup = None;
            }
            if post.holder == Some(node) {
                post.holder = post.backup.take();
                changed.push((sector as u16, post.holder));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hier_08_a_backup_takes_over_and_its_place_is_open_again() {
        let mut posts = Coordinators::new(3);
        assert!(posts.appoint(1, 10) && posts.appoint(1, 11) && posts.appoint(2, 10));
        assert!(!posts.appoint(1, 12) && !posts.appoint(2, 10) && !posts.appoint(3, 10));
        let mut changed = Vec::new();
        posts.lose(10, &mut changed);
        assert_eq!(changed, [(1, Some(11)), (2, None)]);
        assert_eq!(posts.post(1), Some(Post { holder: Some(11), backup: None }));
        assert!(posts.appoint(1, 10));
        changed.clear();
        posts.lose(10, &mut changed);
        assert_eq!((changed.len(), posts.post(1).unwrap().backup), (0, None));
    }
}
