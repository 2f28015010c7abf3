//! An ordered map from keys to indexes that knows the largest index below any prefix.
//!
//! An AVL tree (Adelson-Velsky and Landis, 1962) whose nodes also carry the maximum of their subtree. It is
//! persistent: a clone is O(1), and a change copies only the nodes on its path that a clone still shares.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use lictor_machine::Index;

use crate::command::Key;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct MaxTree {
    root: Link,
    len: usize,
}

type Link = Option<Arc<Node>>;

#[derive(Clone, Debug)]
struct Node {
    key: Key,
    index: Index,
    /// The largest index in this subtree.
    max: Index,
    /// The longest path down from here, counted in nodes. An AVL tree of height 255 cannot be built.
    height: u8,
    left: Link,
    right: Link,
}

impl MaxTree {
    /// How many keys it holds.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The index of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Index> {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match key.cmp(&node.key) {
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
                Ordering::Equal => return Some(node.index),
            };
        }
        None
    }

    /// Sets the index of `key`; returns the one it had. O(log n).
    pub(crate) fn insert(&mut self, key: Key, index: Index) -> Option<Index> {
        let old = insert(&mut self.root, key, index);
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes `key`; returns the index it had. O(log n).
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Index> {
        // Looking first keeps a miss from copying a shared path.
        self.get(key)?;
        self.len -= 1;
        remove(&mut self.root, key)
    }

    /// The largest index of the keys with `prefix`; zero if there is none. O(log n).
    pub(crate) fn max_under(&self, prefix: &[u8]) -> Index {
        let mut link = &self.root;
        let top = loop {
            let Some(node) = link else { return Index::ZERO };
            link = match side(&node.key, prefix) {
                Side::Before => &node.right,
                Side::After => &node.left,
                Side::Under => break node,
            };
        };
        let mut max = top.index;
        let mut link = &top.left;
        while let Some(node) = link {
            if node.key.starts_with(prefix) {
                max = max.max(node.index).max(max_of(&node.right));
                link = &node.left;
            } else {
                link = &node.right;
            }
        }
        let mut link = &top.right;
        while let Some(node) = link {
            if node.key.starts_with(prefix) {
                max = max.max(node.index).max(max_of(&node.left));
                link = &node.right;
            } else {
                link = &node.left;
            }
        }
        max
    }

    /// Keys and their indexes in order, starting at `from`.
    pub(crate) fn iter_from(&self, from: Bound<&[u8]>) -> Iter<'_> {
        let mut stack = Vec::new();
        let mut link = &self.root;
        while let Some(node) = link {
            let wanted = match from {
                Bound::Unbounded => true,
                Bound::Included(key) => node.key >= *key,
                Bound::Excluded(key) => node.key > *key,
            };
            if wanted {
                stack.push(&**node);
                link = &node.left;
            } else {
                link = &node.right;
            }
        }
        Iter { stack }
    }
}

/// See [`MaxTree::iter_from`].
pub(crate) struct Iter<'a> {
    /// The nodes that come next, each before its right subtree.
    stack: Vec<&'a Node>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Key, Index);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.stack.pop()?;
        let mut link = &node.right;
        while let Some(next) = link {
            self.stack.push(next);
            link = &next.left;
        }
        Some((&node.key, node.index))
    }
}

/// Where a key stands relative to the keys with a prefix.
enum Side {
    Before,
    Under,
    After,
}

fn side(key: &[u8], prefix: &[u8]) -> Side {
    if key.starts_with(prefix) {
        Side::Under
    } else if key < prefix {
        Side::Before
    } else {
        Side::After
    }
}

fn height_of(link: &Link) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn max_of(link: &Link) -> Index {
    link.as_ref().map_or(Index::ZERO, |node| node.max)
}

fn insert(link: &mut Link, key: Key, index: Index) -> Option<Index> {
    let Some(node) = link else {
        *link = Some(Arc::new(Node {
            key,
            index,
            max: index,
            height: 1,
            left: None,
            right: None,
        }));
        return None;
    };
    let node = Arc::make_mut(node);
    let old = match key.cmp(&node.key) {
        Ordering::Less => insert(&mut node.left, key, index),
        Ordering::Greater => insert(&mut node.right, key, index),
        Ordering::Equal => Some(std::mem::replace(&mut node.index, index)),
    };
    node.rebalance();
    old
}

fn remove(link: &mut Link, key: &[u8]) -> Option<Index> {
    let node = Arc::make_mut(link.as_mut()?);
    let removed = match key.cmp(&node.key) {
        Ordering::Less => remove(&mut node.left, key),
        Ordering::Greater => remove(&mut node.right, key),
        Ordering::Equal => {
            let removed = node.index;
            if node.left.is_none() || node.right.is_none() {
                *link = node.left.take().or_else(|| node.right.take());
                return Some(removed);
            }
            if let Some((key, index)) = pop_first(&mut node.right) {
                node.key = key;
                node.index = index;
            }
            Some(removed)
        }
    };
    node.rebalance();
    removed
}

fn pop_first(link: &mut Link) -> Option<(Key, Index)> {
    let node = Arc::make_mut(link.as_mut()?);
    if node.left.is_some() {
        let first = pop_first(&mut node.left);
        node.rebalance();
        return first;
    }
    let first = (node.key.clone(), node.index);
    *link = node.right.take();
    Some(first)
}

impl Node {
    /// Restores what the node knows of its subtree, whose sides may differ in height by up to two.
    fn rebalance(&mut self) {
        let (left, right) = (height_of(&self.left), height_of(&self.right));
        if left > right + 1 {
            if let Some(child) = self.left.as_mut()
                && height_of(&child.left) < height_of(&child.right)
            {
                Arc::make_mut(child).rotate_left();
            }
            self.rotate_right();
        } else if right > left + 1 {
            if let Some(child) = self.right.as_mut()
                && height_of(&child.right) < height_of(&child.left)
            {
                Arc::make_mut(child).rotate_right();
            }
            self.rotate_left();
        } else {
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        self.height = 1 + height_of(&self.left).max(height_of(&self.right));
        self.max = self.index.max(max_of(&self.left)).max(max_of(&self.right));
    }

    fn rotate_left(&mut self) {
        let Some(mut pivot) = self.right.take() else {
            return;
        };
        let top = Arc::make_mut(&mut pivot);
        self.right = top.left.take();
        self.refresh();
        std::mem::swap(self, top);
        self.left = Some(pivot);
        self.refresh();
    }

    fn rotate_right(&mut self) {
        let Some(mut pivot) = self.left.take() else { return };
        let top = Arc::make_mut(&mut pivot);
        self.left = top.right.take();
        self.refresh();
        std::mem::swap(self, top);
        self.right = Some(pivot);
        self.refresh();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// Checks order, balance and maxima of a subtree; returns its height and maximum.
    fn check(link: &Link) -> (u8, Index) {
        let Some(node) = link else { return (0, Index::ZERO) };
        let (left, right) = (check(&node.left), check(&node.right));
        assert!(left.0.abs_diff(right.0) <= 1, "out of balance at {:?}", node.key);
        assert!(node.left.as_ref().is_none_or(|left| left.key < node.key));
        assert!(node.right.as_ref().is_none_or(|right| right.key > node.key));
        assert_eq!(node.height, 1 + left.0.max(right.0));
        assert_eq!(node.max, node.index.max(left.1).max(right.1));
        (node.height, node.max)
    }

    fn small_key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', 0xff]), 0..4)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(
            steps in prop::collection::vec((small_key(), prop::option::of(1_u64..100)), 0..200),
            probes in prop::collection::vec(small_key(), 8),
        ) {
            let (mut tree, mut model) = (MaxTree::default(), BTreeMap::new());
            let mut earlier: Vec<(MaxTree, BTreeMap<Vec<u8>, Index>)> = Vec::new();
            for (key, index) in steps {
                earlier.push((tree.clone(), model.clone()));
                let (found, expected) = if let Some(index) = index.map(Index) {
                    (tree.insert(Bytes::from(key.clone()), index), model.insert(key, index))
                } else {
                    (tree.remove(&key), model.remove(&key))
                };
                prop_assert_eq!(found, expected);
                check(&tree.root);
                prop_assert_eq!(tree.len(), model.len());
            }
            // Clones are not disturbed by what came after them.
            earlier.push((tree, model));
            for (tree, model) in earlier {
                check(&tree.root);
                let all: Vec<_> = tree.iter_from(Bound::Unbounded).map(|(key, index)| (key.to_vec(), index)).collect();
                prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
                for probe in &probes {
                    prop_assert_eq!(tree.get(probe), model.get(probe).copied());
                    let under = model.iter().filter(|(key, _)| key.starts_with(probe)).map(|(_, index)| *index).max();
                    prop_assert_eq!(tree.max_under(probe), under.unwrap_or_default());
                    for bound in [Bound::Included(&probe[..]), Bound::Excluded(&probe[..])] {
                        let found: Vec<_> = tree.iter_from(bound).map(|(key, _)| key.to_vec()).collect();
                        let expected: Vec<_> = model.range::<[u8], _>((bound, Bound::Unbounded)).map(|(key, _)| key.clone()).collect();
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn stays_shallow_for_ascending_keys() {
        let mut tree = MaxTree::default();
        for number in 0..10_000_u64 {
            tree.insert(Bytes::copy_from_slice(&number.to_be_bytes()), Index(number));
        }
        // 1.44 * log2(10_000) is 19.2, the worst case of an AVL tree.
        assert!(check(&tree.root).0 <= 19);
        assert_eq!(tree.max_under(b""), Index(9_999));
    }
}
