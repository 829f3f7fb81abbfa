// sim: runs seeds, replays one, hunts mutations. See Options for what it takes.
namespace Cairn.Simulation;

internal static class Program
{
    private static int Main(string[] args) => SimCommand.Run(args);
}
