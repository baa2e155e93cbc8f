//! The shape of the DAG at submission: is there a cycle, and which. What becomes ready when is `dag`'s.

/// A cycle, as positions of the tasks along it, the first one repeated at the end; `None` if there is none. `needs[i]` are the tasks
/// that task i waits for. Iterative: a chain of 100,000 tasks needs no stack.
pub(super) fn cycle(needs: &[Vec<u32>]) -> Option<Vec<u32>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; needs.len()];
    for start in 0..needs.len() {
        if marks[start] != Mark::New {
            continue;
        }
        // The open path: each task with the number of its needs already followed.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        marks[start] = Mark::Open;
        while let Some(&mut (at, ref mut followed)) = path.last_mut() {
            let Some(&next) = needs[at].get(*followed) else {
                marks[at] = Mark::Done;
                path.pop();
                continue;
            };
            *followed += 1;
            let next = next as usize;
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::Open;
                    path.push((next, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|&(task, _)| task == next).unwrap_or(0);
                    let position = |task: usize| u32::try_from(task).unwrap_or(u32::MAX);
                    let mut cycle: Vec<u32> = path[from..].iter().map(|&(task, _)| position(task)).collect();
                    cycle.push(position(next));
                    return Some(cycle);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_and_named() {
        assert_eq!(cycle(&[vec![], vec![0], vec![0, 1]]), None);
        assert_eq!(cycle(&[vec![1], vec![2], vec![0]]), Some(vec![0, 1, 2, 0]));
        assert_eq!(cycle(&[vec![], vec![0, 3], vec![1], vec![2]]), Some(vec![1, 3, 2, 1]));
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let mut needs: Vec<Vec<u32>> =
            (0..100_000).map(|i| if i == 0 { vec![] } else { vec![i - 1] }).collect();
        assert_eq!(cycle(&needs), None);
        needs[0] = vec![99_999];
        assert_eq!(cycle(&needs).map(|c| c.len()), Some(100_001));
    }
}
