// DataDirectory: where a member's files are, and the probes etcd makes before it uses them (storage.md §7.1).
// Called once, by the thread that starts the member.
using System;
using System.Globalization;
using System.IO;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Server;

/// <summary>Paths of one member.</summary>
internal sealed class DataDirectory
{
    private readonly IFileSystem _files;
    private readonly string _root;

    internal DataDirectory(IFileSystem files, string dataDir, string? walDir)
    {
        _files = files;
        _root = dataDir;
        Member = Path.Combine(dataDir, "member");
        Snap = Path.Combine(Member, "snap");
        Wal = string.IsNullOrEmpty(walDir) ? Path.Combine(Member, "wal") : walDir;
        Tree = Path.Combine(Snap, "db");
    }

    internal string Member { get; }

    internal string Snap { get; }

    internal string Wal { get; }

    /// <summary>The tree file.</summary>
    internal string Tree { get; }

    /// <summary>How databases received from a leader end.</summary>
    internal const string DatabaseSuffix = ".snap.db";

    /// <summary>Path of a database received from a leader, to be swapped in (storage.md §9.4).</summary>
    internal string SnapshotDatabase(ulong index) =>
        Path.Combine(Snap, index.ToString("x16", CultureInfo.InvariantCulture) + DatabaseSuffix);

    /// <summary>How the tree file is opened.</summary>
    internal static TreeOptions TreeOptions(MemberOptions options, IClock clock)
    {
        long quota = options.EffectiveQuotaBytes;
        long reserve = options.TreeReserveBytes > 0 ? options.TreeReserveBytes
            : quota >= long.MaxValue / 4 ? 1L << 40
            : Math.Max(64L << 30, 4 * quota);
        return new TreeOptions { ReserveBytes = reserve, NoSync = options.UnsafeNoSync, Clock = clock };
    }

    /// <summary>Makes the directories and sees that they can be written to.</summary>
    /// <exception cref="MemberStartException">One cannot.</exception>
    internal void Prepare()
    {
        try
        {
            _files.CreateDirectory(_root);
            _files.CreateDirectory(Member);
            _files.CreateDirectory(Snap);
            Touch(_root);
            Touch(Member);
            Touch(Snap);
            SyncNames();
        }
        catch (FileSystemException e)
        {
            throw new MemberStartException($"cannot write to the data directory: {e.Message}", e);
        }
    }

    /// <summary>Deletes what an interrupted receive or defragmentation left behind. After all refusals.</summary>
    internal void RemoveLeftovers()
    {
        foreach (string name in _files.List(Snap))
        {
            // A received database that the log asks for has been renamed by now; any other one was never accepted.
            if (name.StartsWith("tmp", StringComparison.Ordinal) || name.StartsWith("db.tmp", StringComparison.Ordinal)
                || name.EndsWith(DatabaseSuffix, StringComparison.Ordinal))
            {
                _files.DeleteFile(Path.Combine(Snap, name));
            }
        }
    }

    /// <summary>
    /// Makes the directories' names durable, at every start: whoever made them may have died, or lost power, before
    /// they were, and then everything acknowledged would hang on a name that a power cut takes away.
    /// </summary>
    private void SyncNames()
    {
        _files.SyncDirectory(Member);
        _files.SyncDirectory(_root);
        string? above = Path.GetDirectoryName(Path.GetFullPath(_root));
        while (above is not null)
        {
            try
            {
                _files.SyncDirectory(above);
            }
            catch (FileSystemException)
            {
                // Not ours, perhaps not even readable; whoever made it answers for it.
                return;
            }

            above = Path.GetDirectoryName(above);
        }
    }

    private void Touch(string directory)
    {
        string path = Path.Combine(directory, ".touch");
        _files.Open(path, FileOpenMode.CreateOrTruncate).Dispose();
        _files.DeleteFile(path);
    }
}
