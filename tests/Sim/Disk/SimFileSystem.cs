// SimFileSystem: a disk that obeys one seed: IFileSystem over memory, with power cuts, failing syncs and a full disk.
//
// Every operation that changes something is an event with a number. A run without faults counts them; then the same
// run is repeated with a power cut at each number. A write that is cut is in flight: any of its sectors may survive.
// Submitted operations end later, in simulated time, in an order the scheduler draws.
// After a cut or a stop everything throws PowerLossException, so that nothing of the dead process reaches the disk;
// the next process gets the file system that PowerLoss or ProcessDeath returns.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Simulation;

internal sealed class SimFileSystem : IFileSystem
{
    public const int NoSpace = 28;
    public const int InputOutputError = 5;

    private readonly SimRandom _random;

    public SimFileSystem(SimRandom random)
        : this(random, new SimDirectory())
    {
    }

    private SimFileSystem(SimRandom random, SimDirectory root)
    {
        _random = random;
        Root = root;
    }

    /// <summary>Null: submitted operations end at once.</summary>
    public SimScheduler? Scheduler { get; set; }

    /// <summary>Changes so far.</summary>
    public long Events { get; private set; }

    /// <summary>Power is cut at the event with this number.</summary>
    public long CutAt { get; set; } = long.MaxValue;

    /// <summary>File syncs so far.</summary>
    public long Syncs { get; private set; }

    /// <summary>The sync with this number fails.</summary>
    public long FailSyncAt { get; set; } = long.MaxValue;

    /// <summary>
    /// Every so many syncs of a file whose name ends so, the disk says yes and does nothing. No storage engine can
    /// stand that; it is here to prove that the tests would see a sync that is forgotten.
    /// </summary>
    public (string Suffix, int Every) Lie { get; set; } = (string.Empty, 0);

    /// <summary>What all files together may take.</summary>
    public long CapacityBytes { get; set; } = long.MaxValue;

    /// <summary>True once the power is cut.</summary>
    public bool IsDead { get; private set; }

    /// <summary>Dead, and what is left of the process only frees its memory: it finds no files to tidy up.</summary>
    public bool IsAbandoned { get; set; }

    /// <summary>For looking at it from outside.</summary>
    public SimDirectory Root { get; }

    public SimRandom Random => _random;

    /// <summary>Writes that were submitted and have not ended.</summary>
    internal List<WriteInFlight> InFlight { get; } = [];

    /// <summary>The disk as the next process finds it after a cut. This one is dead from now on.</summary>
    public SimFileSystem PowerLoss(Survival survival, SimRandom random)
    {
        IsDead = true;
        LandInFlight(survival == Survival.Nothing ? 0 : 50, random);
        var copies = new Dictionary<SimNode, SimNode>(ReferenceEqualityComparer.Instance);
        var root = Root.AfterPowerLoss(survival, random, copies);
        return new SimFileSystem(random.Fork("disk"), root) { Lie = Lie };
    }

    /// <summary>The process died, the machine did not: the page cache is there, unsynced changes stay unsynced.</summary>
    public SimFileSystem ProcessDeath(SimRandom random)
    {
        IsDead = true;
        LandInFlight(50, random);
        Unlock(Root);
        return new SimFileSystem(random.Fork("disk"), Root) { Lie = Lie };
    }

    /// <summary>Frees what all files take. Nobody may use this disk, or one made from it by <see cref="ProcessDeath"/>, any more.</summary>
    public void Free()
    {
        IsDead = true;
        FreeAll(Root);
        InFlight.Clear();

        static void FreeAll(SimDirectory directory)
        {
            foreach (SimNode node in directory.Names.Values)
            {
                switch (node)
                {
                    case SimDirectory inner:
                        FreeAll(inner);
                        break;
                    case SimInode inode:
                        inode.Dispose();
                        break;
                }
            }
        }
    }

    /// <summary>Cuts the power now.</summary>
    public void Cut() => IsDead = true;

    public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180)
    {
        ThrowIfDead();
        (SimDirectory directory, string name) = Locate(path);
        if (!directory.Names.TryGetValue(name, out SimNode? node))
        {
            if (mode is FileOpenMode.Read or FileOpenMode.ReadWrite)
            {
                throw new FileSystemException("open", path, 2, "No such file or directory");
            }

            OnEvent();
            node = new SimInode();
            directory.Set(name, node);
        }

        if (node is not SimInode inode)
        {
            throw new FileSystemException("open", path, 21, "Is a directory");
        }

        if (mode == FileOpenMode.CreateOrTruncate && inode.Length > 0)
        {
            OnEvent();
            inode.SetLength(0);
        }

        return new SimFile(this, inode, path);
    }

    public bool FileExists(string path) => Find(path) is SimInode;

    public bool DirectoryExists(string path) => Find(path) is SimDirectory;

    public void CreateDirectory(string path)
    {
        ThrowIfDead();
        SimDirectory directory = Root;
        foreach (string part in Parts(path))
        {
            if (!directory.Names.TryGetValue(part, out SimNode? node))
            {
                OnEvent();
                node = new SimDirectory();
                directory.Set(part, node);
            }

            directory = node as SimDirectory ?? throw new FileSystemException("mkdir", path, 20, "Not a directory");
        }
    }

    public string[] List(string directory)
    {
        if (IsAbandoned)
        {
            return [];
        }

        ThrowIfDead();
        SimDirectory found = FindDirectory("list", directory);
        string[] names = new string[found.Names.Count];
        found.Names.Keys.CopyTo(names, 0);
        return names;
    }

    public void Rename(string from, string to)
    {
        ThrowIfDead();
        (SimDirectory source, string fromName) = Locate(from);
        (SimDirectory target, string toName) = Locate(to);
        if (!source.Names.TryGetValue(fromName, out SimNode? node))
        {
            throw new FileSystemException("rename", from, 2, "No such file or directory");
        }

        OnEvent();
        if (source == target)
        {
            source.Rename(fromName, toName);
        }
        else
        {
            target.Set(toName, node);
            source.Remove(fromName);
        }
    }

    public void DeleteFile(string path) => Delete(path);

    public void DeleteDirectory(string path) => Delete(path);

    public void SyncDirectory(string path)
    {
        ThrowIfDead();
        SimDirectory directory = FindDirectory("fsync", path);
        OnEvent();
        directory.Sync();
    }

    internal void ThrowIfDead()
    {
        if (IsDead)
        {
            throw new PowerLossException();
        }
    }

    /// <summary>Counts an event; the one that is to be cut throws before it has any effect.</summary>
    internal void OnEvent()
    {
        ThrowIfDead();
        if (++Events >= CutAt)
        {
            IsDead = true;
            throw new PowerLossException();
        }
    }

    /// <summary>Counts an event whose effect may survive in part: true if the power goes while it runs.</summary>
    internal bool OnInterruptibleEvent()
    {
        ThrowIfDead();
        if (++Events >= CutAt)
        {
            IsDead = true;
        }

        return IsDead;
    }

    /// <summary>True if this sync is the one that fails.</summary>
    internal bool OnSync() => ++Syncs == FailSyncAt;

    /// <summary>True if this sync, already counted, is to be a lie.</summary>
    internal bool IsLie(string path) =>
        Lie.Every > 0 && Syncs % Lie.Every == 0 && path.EndsWith(Lie.Suffix, StringComparison.Ordinal);

    /// <summary>True if a file may grow to this length.</summary>
    internal bool HasSpaceFor(SimInode inode, long length) =>
        length <= inode.Length || Used(Root) - inode.Length + length <= CapacityBytes;

    /// <summary>Bytes taken by all files that have a name.</summary>
    internal static long Used(SimDirectory directory)
    {
        long used = 0;
        foreach (SimNode node in directory.Names.Values)
        {
            used += node is SimDirectory inner ? Used(inner) : ((SimInode)node).Length;
        }

        return used;
    }

    internal SimNode? Find(string path)
    {
        ThrowIfDead();
        SimNode node = Root;
        foreach (string part in Parts(path))
        {
            if (node is not SimDirectory directory || !directory.Names.TryGetValue(part, out SimNode? next))
            {
                return null;
            }

            node = next;
        }

        return node;
    }

    private void LandInFlight(int percent, SimRandom random)
    {
        foreach (WriteInFlight write in InFlight)
        {
            if (random.Chance(percent))
            {
                write.Inode.Write(write.Offset, write.Data);
            }
        }

        InFlight.Clear();
    }

    private static string[] Parts(string path) => path.Split('/', StringSplitOptions.RemoveEmptyEntries);

    private static void Unlock(SimDirectory directory)
    {
        foreach (SimNode node in directory.Names.Values)
        {
            if (node is SimDirectory inner)
            {
                Unlock(inner);
            }
            else if (node is SimInode inode)
            {
                Array.Clear(inode.Locks);
                inode.DropMap();
            }
        }
    }

    private SimDirectory FindDirectory(string operation, string path) => Find(path) as SimDirectory
        ?? throw new FileSystemException(operation, path, 2, "No such file or directory");

    private (SimDirectory Directory, string Name) Locate(string path)
    {
        string[] parts = Parts(path);
        SimNode node = Root;
        foreach (string part in parts[..^1])
        {
            if (node is not SimDirectory directory || !directory.Names.TryGetValue(part, out SimNode? next))
            {
                throw new FileSystemException("open", path, 2, "No such file or directory");
            }

            node = next;
        }

        return ((SimDirectory)node, parts[^1]);
    }

    private void Delete(string path)
    {
        if (IsAbandoned)
        {
            return;
        }

        ThrowIfDead();
        (SimDirectory directory, string name) = Locate(path);
        if (!directory.Names.ContainsKey(name))
        {
            throw new FileSystemException("unlink", path, 2, "No such file or directory");
        }

        OnEvent();
        directory.Remove(name);
    }
}

/// <summary>A submitted write with the bytes it had then.</summary>
internal sealed record WriteInFlight(SimInode Inode, long Offset, byte[] Data);
