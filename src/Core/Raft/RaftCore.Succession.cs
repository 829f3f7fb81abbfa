// RaftCore.Succession: a change of configuration never leaves a cluster in which nobody can lead.
//
// The hole    A configuration is active where its entry is applied. Until the others know that an entry is committed they
//             count votes by the older one, in which a removed or demoted member still votes, or a promoted one does not
//             know that it does. If that member holds the longest log it refuses everybody, and may not stand itself: no
//             leader for ever (etcd #12359 and its mirror image, decision 0061).
// Two rules   A leader that has applied its own removal or demotion leads on: it takes no proposals, counts itself
//             nowhere, and hands over to the first voter that has its whole log; a quorum it does not hear unseats it as
//             ever. A member that does not vote but is asked for a vote by somebody with a shorter log (only voters are
//             asked, so somebody counts it as one) stands for election, once for each such request.
// Why safe    Nothing in raft's argument needs the candidate to be a member of the configuration that elects it: the votes
//             are those of a majority of a configuration it has applied, which meets every majority of the
//             configurations beside it, and the obligations of apply-time changes (RaftCore.Membership) keep others away.
//             A majority that hears a leader ignores it (check-quorum), so it disturbs nobody.
namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private bool _standsIn; // somebody without our last entries needs our vote

    /// <summary>This leader is no voter any more: all it does is to find a successor.</summary>
    private bool IsOutvoted => _config.EnsuresSuccession && Role == RaftRole.Leader && !_configuration.IsVoter(Id);

    /// <summary>Its own removal or demotion is applied here: the others have to learn it, and one of them has to lead.</summary>
    private void LeadOn()
    {
        _transferee = 0; // judged by the new configuration
        _ = MaybeCommit();
        Broadcast();
        foreach (Progress peer in _progress)
        {
            if (peer.IsRecentActive)
            {
                HandOverIfOutvoted(peer);
            }
        }
    }

    /// <summary>Asked whenever a peer was heard from, so the successor is alive; one at a time, until it is given up.</summary>
    private void HandOverIfOutvoted(Progress peer)
    {
        if (IsOutvoted && _transferee == 0 && peer.Match == LastIndex && _configuration.IsVoter(peer.Id))
        {
            TransferLeader(peer.Id);
        }
    }

    /// <summary>A vote was refused because the candidate's log is shorter than ours.</summary>
    private void StandInIfNeeded() =>
        _standsIn |= _config.EnsuresSuccession && Role == RaftRole.Follower && !_configuration.IsVoter(Id)
            && _configuration.Incoming.Length > 0;
}
