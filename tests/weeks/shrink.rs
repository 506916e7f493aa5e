//! Makes a story that breaks a promise as short as it breaks one still.

use crate::live;
use crate::story::Story;

/// The shortest story found, and what it breaks.
pub fn shortest(mut story: Story, mut broken: String) -> (Story, String) {
    loop {
        let smaller = (0..story.bouts.len())
            .map(|bout| without(&story, bout, None))
            .chain(story.bouts.iter().enumerate().flat_map(|(bout, b)| {
                let story = &story;
                (0..b.troubles.len()).map(move |trouble| without(story, bout, Some(trouble)))
            }))
            .find_map(|s| live::through(&s, false).err().map(|broken| (s, broken)));
        match smaller {
            Some((s, b)) => (story, broken) = (s, b),
            None => return (story, broken),
        }
    }
}

/// The story without one of its bouts, or without one of a bout's troubles.
fn without(story: &Story, bout: usize, trouble: Option<usize>) -> Story {
    let mut story = story.clone();
    match trouble {
        None => _ = story.bouts.remove(bout),
        Some(trouble) => {
            let troubles = &mut story.bouts[bout].troubles;
            let (pause, _) = troubles.remove(trouble);
            // What comes after it stays at its time.
            if let Some(next) = troubles.get_mut(trouble) {
                next.0 += pause;
            }
        }
    }
    story
}
