// RevisionModel: etcd's revisions of keys, as a sorted dictionary of lists. Slow and obvious; nothing of src/.
using System;
using System.Collections.Generic;

namespace Cairn.Core.Tests.Mvcc;

internal sealed record ModelRevision(long Main, int Sub, bool IsTombstone, long Created, long Version, byte[] Value, long Lease);

internal sealed class RevisionModel
{
    public SortedDictionary<byte[], List<ModelRevision>> Keys { get; } = new(ByteOrder.Instance);

    public long Compacted { get; private set; } = -1;

    public bool IsLive(byte[] key) => Newest(key, long.MaxValue) is { IsTombstone: false };

    public ModelRevision? Newest(byte[] key, long atMain)
    {
        ModelRevision? newest = null;
        if (Keys.TryGetValue(key, out List<ModelRevision>? revisions))
        {
            foreach (ModelRevision revision in revisions)
            {
                if (revision.Main <= atMain)
                {
                    newest = revision;
                }
            }
        }

        return newest;
    }

    public void Put(byte[] key, long main, int sub = 0, byte[]? value = null, long lease = 0)
    {
        ModelRevision? before = Newest(key, long.MaxValue);
        bool fresh = before is null || before.IsTombstone;
        Add(key, new ModelRevision(main, sub, false, fresh ? main : before!.Created, fresh ? 1 : before!.Version + 1, value ?? [], lease));
    }

    public void Delete(byte[] key, long main, int sub = 0) => Add(key, new ModelRevision(main, sub, true, 0, 0, [], 0));

    public void Compact(long at)
    {
        Compacted = at;
        var dead = new List<byte[]>();
        foreach ((byte[] key, List<ModelRevision> revisions) in Keys)
        {
            int newest = revisions.FindLastIndex(revision => revision.Main <= at);
            if (newest < 0)
            {
                continue;
            }

            ModelRevision kept = revisions[newest];
            revisions.RemoveRange(0, kept.IsTombstone && kept.Main < at ? newest + 1 : newest);
            if (revisions.Count == 0)
            {
                dead.Add(key);
            }
        }

        foreach (byte[] key in dead)
        {
            Keys.Remove(key);
        }
    }

    private void Add(byte[] key, ModelRevision revision)
    {
        if (!Keys.TryGetValue(key, out List<ModelRevision>? revisions))
        {
            revisions = [];
            Keys.Add(key, revisions);
        }

        revisions.Add(revision);
    }

    private sealed class ByteOrder : IComparer<byte[]>
    {
        public static readonly ByteOrder Instance = new();

        public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
    }
}
