// ShrinkPosition: where online shrinking stands between its steps. Bucket names and keys, never page numbers of nodes:
// they survive whatever commits come in between. Thread: tree.
namespace Cairn.Btree;

/// <summary>Where the next step goes on. A round is one walk over all buckets.</summary>
internal sealed class ShrinkPosition
{
    /// <summary>Bucket the round goes on in; empty at its beginning.</summary>
    public byte[] Bucket { get; set; } = [];

    /// <summary>First key of the next subtree; empty for the whole bucket.</summary>
    public byte[] Key { get; set; } = [];

    /// <summary>Something was moved in this round.</summary>
    public bool MovedInThisRound { get; set; }

    /// <summary>The largest run this round found no gap for; 0 if all fitted.</summary>
    public uint BlockedPages { get; set; }

    /// <summary>This round empties the pages [WindowFrom, WindowTo) for runs that found no gap.</summary>
    public bool IsEmptying { get; set; }

    public ulong WindowFrom { get; set; }

    /// <summary>Everything below has been emptied once, or was not worth it.</summary>
    public ulong WindowTo { get; set; }

    /// <summary>No window is left: what lies beyond the target moves into any gap below itself.</summary>
    public bool IsSettling { get; set; }

    /// <summary>Rounds since shrinking began.</summary>
    public int Rounds { get; set; }

    /// <summary>Steps in a row that moved nothing: pins hold the pages.</summary>
    public int StalledSteps { get; set; }

    /// <summary>Begins the next round.</summary>
    public void EndRound()
    {
        Bucket = [];
        Key = [];
        MovedInThisRound = false;
        BlockedPages = 0;
        Rounds++;
    }

    /// <summary>Forgets everything: the next step begins anew.</summary>
    public void Reset()
    {
        EndRound();
        IsEmptying = false;
        IsSettling = false;
        WindowFrom = 0;
        WindowTo = 0;
        Rounds = 0;
        StalledSteps = 0;
    }
}
