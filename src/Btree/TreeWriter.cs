// TreeWriter: the one write transaction: which nodes exist, which pages they replace, and how it ends.
//
// Thread     tree.
// Invariants Free pages are taken while a commit is built, after which it can only succeed or stop the member; only
//            relocation takes a place earlier, kept in the node it is for, and a rollback gives it back.
using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>The one write transaction. Tree thread; ends with a commit or <see cref="Rollback"/>.</summary>
public sealed unsafe class TreeWriter
{
    private readonly List<Node?> _nodes = new() { null }; // by id; pooled beyond _nodeCount
    private readonly List<PageRun> _givenUp = new();
    private readonly TreeCommit _commit;
    private int _nodeCount = 1;
    private long _borrowedBytes;
    private State _state;
    private TreeRoot _base;

    internal TreeWriter(Tree tree)
    {
        Tree = tree;
        _base = tree.CurrentRoot;
        Top = new TreeBucket(this, null, []);
        _commit = new TreeCommit(this);
    }

    private enum State
    {
        Idle,
        Open,
        Committing,
    }

    /// <summary>Number this commit will have.</summary>
    public ulong TxId => _base.TxId + 1;

    /// <summary>Bytes held by changed keys and values so far, lent ones included.</summary>
    public long DirtyBytes => Arena.UsedBytes + _borrowedBytes;

    /// <summary>
    /// A commit now would change the file: something was written or moved, or the end can be cut. If not, a
    /// <see cref="Rollback"/> does as well.
    /// </summary>
    public bool IsWorthCommitting => _nodeCount > 1 || Tree.IsTrimPending || Tree.Free.IsFree(Tree.Free.HighWater - 1);

    internal Tree Tree { get; }

    /// <summary>The state this transaction changes.</summary>
    internal ref readonly TreeRoot Base => ref _base;

    /// <summary>Counts transactions, those rolled back included; a bucket handle belongs to one.</summary>
    internal long Serial { get; private set; }

    internal Arena Arena { get; } = new();

    internal bool IsOpen => _state == State.Open;

    /// <summary>The nameless bucket that holds the others; one object for all transactions.</summary>
    internal TreeBucket Top { get; }

    internal int NodeCount => _nodeCount;

    internal List<PageRun> GivenUp => _givenUp;

    /// <summary>Opens a bucket of the top level.</summary>
    public bool TryGetBucket(ReadOnlySpan<byte> name, [NotNullWhen(true)] out TreeBucket? bucket)
    {
        AssertOpen();
        return Top.TryGetBucket(name, out bucket);
    }

    /// <summary>Makes a bucket of the top level.</summary>
    /// <exception cref="InvalidOperationException">The name is taken.</exception>
    public TreeBucket CreateBucket(ReadOnlySpan<byte> name)
    {
        AssertOpen();
        return Top.CreateBucket(name);
    }

    public TreeBucket CreateBucketIfMissing(ReadOnlySpan<byte> name)
    {
        AssertOpen();
        return Top.CreateBucketIfMissing(name);
    }

    /// <summary>Removes a bucket with everything in it; false if there is none.</summary>
    public bool DeleteBucket(ReadOnlySpan<byte> name)
    {
        AssertOpen();
        return Top.DeleteBucket(name);
    }

    /// <summary>
    /// Moves a page, with its overflow, to the lowest free run that lies below it; the commit does it, copy-on-write
    /// like any change, so readers of older states keep the old one. Nothing else ever moves up because of it but
    /// the branch pages above. Shrinking the file is this, run to its end.
    /// </summary>
    /// <param name="page">Number of the first page as of the state this transaction began with.</param>
    /// <returns>
    /// False, and nothing changes, if no run below is free, or no branch or leaf of a top-level bucket (or of the
    /// top level itself) begins at that page.
    /// </returns>
    public bool Relocate(ulong page)
    {
        AssertOpen();
        return Relocation.Run(this, page);
    }

    /// <summary>
    /// Marks up to this many pages near the end of the file for rewriting; the commit places them low. Looks at a
    /// bounded number of branch pages per call.
    /// </summary>
    /// <returns>
    /// True while there is more to gain: call again in a later transaction, after a pause if
    /// <see cref="Tree.IsShrinkWaiting"/>. A hundred such waits in a row end it.
    /// </returns>
    public bool ShrinkStep(int maxPages)
    {
        AssertOpen();
        return new ShrinkWalk(this, maxPages).Run();
    }

    /// <summary>Writes, syncs and publishes, without pacing; returns when durable. Any failure is fatal.</summary>
    public void Commit()
    {
        AssertOpen();
        _state = State.Committing;
        _commit.RunToEnd();
    }

    /// <summary>The same as work to be polled, paced so that the log's syncs do not suffer.</summary>
    /// <param name="owner">Woken when a submitted operation ends later. May be null.</param>
    /// <returns>An object that the next commit of this tree reuses.</returns>
    public TreeCommit BeginCommit(IWaker? owner)
    {
        AssertOpen();
        _state = State.Committing;
        _commit.Begin(owner);
        return _commit;
    }

    /// <summary>Forgets everything done in this transaction.</summary>
    public void Rollback()
    {
        AssertOpen();
        End();
    }

    internal void Begin(in TreeRoot root)
    {
        Invariant.Check(_state == State.Idle, "one write transaction at a time");
        _state = State.Open;
        _base = root;
        Serial++;
        Top.Begin(root.RootPage, null, root.Sequence);
    }

    /// <summary>Drops all nodes and bytes of the transaction.</summary>
    internal void End()
    {
        GiveBackPlaces();
        _nodeCount = 1;
        _borrowedBytes = 0;
        _givenUp.Clear();
        Arena.Reset();
        _state = State.Idle;
    }

    internal void NoteBorrowed(int bytes) => _borrowedBytes += bytes;

    internal Node NodeAt(int id) => _nodes[id]!;

    internal Node NewNode(TreeBucket bucket, Node? parent, bool isLeaf)
    {
        if (_nodeCount == _nodes.Count)
        {
            // Twice as many at once: commits of varying size soon find the pool large enough for all of them.
            for (int more = Math.Max(_nodes.Count, 32); more > 0; more--)
            {
                _nodes.Add(new Node(_nodes.Count));
            }
        }

        Node node = _nodes[_nodeCount++]!;
        node.Begin(bucket, parent, isLeaf);
        return node;
    }

    internal Node LoadNode(TreeBucket bucket, Node? parent, ulong id)
    {
        byte* page = Tree.Map.Page(id, Base.HighWater);
        Node node = NewNode(bucket, parent, PageFormat.IsLeaf(page));
        node.Load(page);
        node.Page = id;
        node.Pages = PageFormat.Overflow(page) + 1;
        return node;
    }

    /// <summary>Points the changed children of a branch node at it.</summary>
    internal void AdoptChildren(Node parent)
    {
        if (parent.IsLeaf)
        {
            return;
        }

        foreach (ref NodeEntry entry in parent.Entries)
        {
            if (entry.Child != 0)
            {
                NodeAt(entry.Child).Parent = parent;
            }
        }
    }

    /// <summary>The page a node replaces is no longer part of the tree.</summary>
    internal void GiveUp(Node node)
    {
        if (node.Page != 0)
        {
            GiveUp(node.Page, node.Pages);
            node.Page = 0;
        }
    }

    /// <summary>Runs taken in advance that no node came to use are free again.</summary>
    internal void GiveBackPlaces()
    {
        for (int i = 1; i < _nodeCount; i++)
        {
            GiveBackPlace(NodeAt(i));
        }
    }

    internal void GiveBackPlace(Node node)
    {
        if (node.Place != 0)
        {
            Tree.Free.Add(node.Place, node.PlacePages);
            node.Place = 0;
        }
    }

    internal void GiveUp(ulong page, uint pages) => _givenUp.Add(new PageRun(page, pages));

    internal void Dispose()
    {
        foreach (Node? node in _nodes)
        {
            node?.Dispose();
        }

        _nodes.Clear();
        Arena.Dispose();
        _commit.Dispose();
    }

    private void AssertOpen() => Invariant.Check(_state == State.Open, "the transaction is open");

    /// <summary>Consecutive pages.</summary>
    internal readonly record struct PageRun(ulong Page, uint Pages);
}
