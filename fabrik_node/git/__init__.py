"""The git room: worktrees, the claim ref and the fenced merge.

It drives the installed ``git`` (2.34 or newer) and knows nothing of nodes, ops or items beyond their ids. The rest of the product uses
:class:`Origin`, which fills the ``Arbiter`` and ``Workspaces`` ports.
"""

from fabrik_node.git.claim_record import ClaimRecord, ClaimRefState
from fabrik_node.git.claim_ref import ClaimRef
from fabrik_node.git.fenced_merge import AlreadyMerged, ClaimSuperseded, FencedMerge, Merged, MergeRequest, fenced_merge
from fabrik_node.git.jitter import Pause, pause_from
from fabrik_node.git.merge_message import find_merge
from fabrik_node.git.merge_tree import Conflicts
from fabrik_node.git.origin import ClaimWorkspace, Origin
from fabrik_node.git.probe import RemoteProbe, probe_remote
from fabrik_node.git.repository import Repository
from fabrik_node.git.runner import GIT_VERSION_MIN, GitRunner, check_git
from fabrik_node.git.worktree import Worktree

__all__ = [
    "GIT_VERSION_MIN",
    "AlreadyMerged",
    "ClaimRecord",
    "ClaimRef",
    "ClaimRefState",
    "ClaimSuperseded",
    "ClaimWorkspace",
    "Conflicts",
    "FencedMerge",
    "GitRunner",
    "MergeRequest",
    "Merged",
    "Origin",
    "Pause",
    "RemoteProbe",
    "Repository",
    "Worktree",
    "check_git",
    "fenced_merge",
    "find_merge",
    "pause_from",
    "probe_remote",
]
