// RegisterState: the small state machine of core-level runs: some keys with value, revision and version, one revision
// over all. Its entries carry one RegisterOp each, in native memory that lives as long as the world.

namespace Cairn.Simulation;

internal enum RegisterKind : byte
{
    Put,

    /// <summary>Puts if the key was last changed at <see cref="RegisterOp.Expected"/>.</summary>
    CompareAndPut,
    Delete,
}

/// <summary>What an entry asks for; unique by <see cref="Id"/>.</summary>
internal struct RegisterOp
{
    public ulong Id;
    public RegisterKind Kind;
    public int Key;
    public long Value;
    public long Expected;
}

/// <summary>What it answered.</summary>
internal readonly record struct RegisterResult(long Revision, bool Succeeded);

internal struct RegisterCell
{
    public long Value;
    public long Created;
    public long Modified;
    public long Version;
}

internal sealed class RegisterState
{
    private readonly RegisterCell[] _cells;

    public RegisterState(int keys)
    {
        _cells = new RegisterCell[keys];
    }

    private RegisterState(RegisterState other)
    {
        _cells = (RegisterCell[])other._cells.Clone();
        Revision = other.Revision;
        Hash = other.Hash;
        Index = other.Index;
    }

    public long Revision { get; private set; } = 1;

    /// <summary>Rolls over everything applied, so that equal hashes mean equal histories.</summary>
    public ulong Hash { get; private set; } = 14695981039346656037;

    /// <summary>Last index applied.</summary>
    public ulong Index { get; private set; }

    public ref readonly RegisterCell this[int key] => ref _cells[key];

    public RegisterState Copy() => new(this);

    /// <summary>The empty state at an index, where a log starts.</summary>
    public RegisterState StartAt(ulong index)
    {
        Index = index;
        return this;
    }

    public RegisterResult Apply(ulong index, in RegisterOp op)
    {
        ref RegisterCell cell = ref _cells[op.Key];
        bool succeeds = op.Kind switch
        {
            RegisterKind.CompareAndPut => cell.Modified == op.Expected,
            RegisterKind.Delete => cell.Version > 0,
            _ => true,
        };
        if (succeeds)
        {
            Revision++;
            cell = op.Kind == RegisterKind.Delete
                ? default
                : new RegisterCell
                {
                    Value = op.Value,
                    Created = cell.Version == 0 ? Revision : cell.Created,
                    Modified = Revision,
                    Version = cell.Version + 1,
                };
        }

        Skip(index);
        Mix(op.Id);
        Mix((ulong)Revision);
        return new RegisterResult(Revision, succeeds);
    }

    /// <summary>An entry without an operation.</summary>
    public void Skip(ulong index)
    {
        SimCheck.That(index == Index + 1, $"entry {index} was applied after entry {Index}");
        Index = index;
        Mix(index);
    }

    private void Mix(ulong value)
    {
        Hash = (Hash ^ value) * 0x9E3779B97F4A7C15;
        Hash ^= Hash >> 29;
    }
}

/// <summary>A state with the configuration that belongs to it: what a tree commit or a snapshot holds.</summary>
internal sealed record RegisterImage(
    RegisterState State, ulong Index, ulong Term, Core.Protocol.ConfState Configuration);
