// TreeHost: the actor of the tree thread: polls the tree actor of the store in use, and stands still while it is replaced.
//
// Threads    btree: Poll. store: AskToRest, then, once IsResting, Use. While it rests the tree thread touches nothing.
using System.Threading;
using Cairn.Base;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>A place for the tree actor.</summary>
internal sealed class TreeHost(TreeActor first, IWaker self, IWaker store) : IActor
{
    private TreeActor _actor = first;
    private bool _restWanted;
    private bool _resting;

    /// <inheritdoc/>
    public string RoleName => "btree";

    /// <inheritdoc/>
    public long NextDeadlineNs => Volatile.Read(ref _resting) ? long.MaxValue : _actor.NextDeadlineNs;

    /// <summary>The store thread may replace the tree.</summary>
    internal bool IsResting => Volatile.Read(ref _resting);

    /// <summary>After the commit under way, if there is one, nothing more is done.</summary>
    internal void AskToRest()
    {
        if (!Volatile.Read(ref _restWanted))
        {
            Volatile.Write(ref _restWanted, true);
            self.Wake();
        }
    }

    /// <summary>Goes on with another tree.</summary>
    internal void Use(TreeActor actor)
    {
        Invariant.Check(IsResting, "the tree is replaced while its thread rests");
        _actor = actor;
        Volatile.Write(ref _restWanted, false);
        Volatile.Write(ref _resting, false);
        self.Wake();
    }

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (Volatile.Read(ref _resting))
        {
            return false;
        }

        if (Volatile.Read(ref _restWanted) && _actor.TryRest())
        {
            Volatile.Write(ref _resting, true);
            store.Wake();
            return true;
        }

        return _actor.Poll(nowNs);
    }
}
