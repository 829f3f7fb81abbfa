// SimDirectory: names as the process sees them and as a power cut would leave them.
//
// A name change is durable after a sync of the directory. Before, a journalling file system keeps some prefix of the
// changes of one directory; different directories are independent of each other.
using System;
using System.Collections.Generic;

namespace Cairn.Simulation;

internal sealed class SimDirectory : SimNode
{
    private readonly List<NameChange> _pending = [];
    private SortedDictionary<string, SimNode> _durable = new(StringComparer.Ordinal);

    public SortedDictionary<string, SimNode> Names { get; private init; } = new(StringComparer.Ordinal);

    public void Set(string name, SimNode node)
    {
        Names[name] = node;
        _pending.Add(new NameChange(null, name, node));
    }

    public void Remove(string name)
    {
        Names.Remove(name);
        _pending.Add(new NameChange(name, null, null));
    }

    public void Rename(string from, string to)
    {
        SimNode node = Names[from];
        Names.Remove(from);
        Names[to] = node;
        _pending.Add(new NameChange(from, to, node));
    }

    public void Sync()
    {
        _durable = new SortedDictionary<string, SimNode>(Names, StringComparer.Ordinal);
        _pending.Clear();
    }

    /// <summary>The directory after a power cut; every surviving file once, under each name it has.</summary>
    public SimDirectory AfterPowerLoss(Survival survival, SimRandom random, Dictionary<SimNode, SimNode> copies)
    {
        var names = new SortedDictionary<string, SimNode>(_durable, StringComparer.Ordinal);
        int kept = survival switch
        {
            Survival.Nothing => 0,
            Survival.Everything => _pending.Count,
            _ => random.Below(_pending.Count + 1),
        };
        for (int i = 0; i < kept; i++)
        {
            NameChange change = _pending[i];
            if (change.From is not null)
            {
                names.Remove(change.From);
            }

            if (change.To is not null)
            {
                names[change.To] = change.Node!;
            }
        }

        var copy = new SimDirectory();
        copies[this] = copy;
        foreach ((string name, SimNode node) in names)
        {
            if (!copies.TryGetValue(node, out SimNode? survivor))
            {
                survivor = node is SimDirectory directory
                    ? directory.AfterPowerLoss(survival, random, copies)
                    : ((SimInode)node).AfterPowerLoss(survival, random);
                copies[node] = survivor;
            }

            copy.Names[name] = survivor;
        }

        copy.Sync();
        return copy;
    }

    private readonly record struct NameChange(string? From, string? To, SimNode? Node);
}
